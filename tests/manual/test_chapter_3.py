"""Chapter 3 of the manual: what it calls unavailable. An open file is refused by name, a local function works."""

import pytest

from tests.helpers import run_python

OPEN_FILE = """
def work(file):
  return file
def uses(k):
  return file.name
if __name__=="__main__":
  import sys,XME
  xme=XME.XME(work,uses,start_method=sys.argv[1])
  file=open("filename","w")
  for call in (lambda: xme.fun(file), lambda: xme.funs([1],[[1]])):
    try:
      call()
    except XME.UnshareableArgument as error:
      print(error)
  file.close()
"""


def test_an_open_file_is_refused_as_parameter_and_as_variable(start_method, tmp_path):
    done = run_python(OPEN_FILE, start_method, cwd=tmp_path)

    what = "cannot be sent to a worker: it is an open file ('filename'); pass its path, and open it in the function"
    expected = f"positional argument 0 of work {what}\nthe global 'file' used by the function uses {what}\n"
    assert (done.stdout, done.stderr, done.returncode) == (expected, "", 0)


LOCAL = """
def fun():
  def targetfun(x,y): # or targetfun=lambda x,y:x+y
    return x+y
  x=50
  y=range(100)
  xme=XME(targetfun,start_method=sys.argv[1])
  return xme.fun(x,xme.Array(y))
if __name__=="__main__":
  import sys
  from XME import XME
  assert fun()==tuple(range(50,150))
  print("done")
"""


@pytest.mark.parametrize("changed", [False, True])
def test_a_local_function_and_a_lambda_work(start_method, changed):
    program = LOCAL
    if changed:
        program = program.replace(
            "def targetfun(x,y): # or targetfun=lambda x,y:x+y\n    return x+y", "targetfun=lambda x,y:x+y"
        )
        assert program != LOCAL

    done = run_python(program, start_method)

    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
