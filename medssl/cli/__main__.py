"""python -m medssl.cli"""

from medssl.cli import entry

if __name__ == "__main__":
    entry()
