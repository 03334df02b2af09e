"""Compile the model for a wheel: programs that need a C library of 2012 or newer, and nothing else.

Clang comes from PyPI (ziglang) with stubs of every glibc since 2.17, so that it does not matter
which machine it runs on. TBB and the C++ library are linked into the programs.

    python release/compile_model.py out/wheel/compiled
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from stangmm.cmdstan import find_cmdstan
from stangmm.cmdstan.build import Sources
from stangmm.cmdstan.command import build_environment, make_program
from stangmm.cmdstan.compile import model_sources
from stangmm.cmdstan.executable import fill_folder
from stangmm.cmdstan.find import CmdStan

CLANG = [sys.executable, "-m", "ziglang", "c++", "-target", "x86_64-linux-gnu.2.17"]
# What Clang warns of in Stan and TBB, one thing of which it takes for an error.
QUIET = ["-w", "-Wno-missing-template-arg-list-after-template-kw"]
CPU_MODEL = Path(__file__).resolve().with_name("cpu_model.cpp")
MATH = "stan/lib/stan_math"
TBB = f"{MATH}/lib/tbb_2020.3"
# The one word of TBB's headers that Clang does not take.
AMENDED = ("enum kind_type {", "enum kind_type : int {")
# Licences of what is in the programs: files of CmdStan.
LICENSES = {
    "cmdstan": "LICENSE",
    "stan": "stan/LICENSE.md",
    "stan-math": f"{MATH}/LICENSE.md",
    "boost": f"{MATH}/lib/boost_*/LICENSE_1_0.txt",
    "eigen": f"{MATH}/lib/eigen_*/COPYING.MPL2",
    "tbb": f"{TBB}/LICENSE",
}


def main() -> None:
    """Compile into the folder that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="has a folder for each program afterwards")
    directory = parser.parse_args().directory.absolute()
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        sys.exit("A wheel with the compiled model is made on Linux on x86_64 only.")
    shutil.rmtree(directory, ignore_errors=True)
    cmdstan = find_cmdstan()
    named = CmdStan(Path(cmdstan.path.name), cmdstan.version)  # without this machine's folders
    with tempfile.TemporaryDirectory() as work:
        compiler = Compiler(cmdstan, Path(work))
        libraries = [*compiler.tbb(), compiler.object(CPU_MODEL, ["-O2"])]
        for threads in (False, True):
            sources = model_sources("native", threads)
            folder = directory / f"{sources.name}-{sources.key}-wheel"
            folder.mkdir(parents=True)
            program = compiler.program(sources, libraries)
            fill_folder(folder, program, named, {"options": sources.options})
    copy_licenses(cmdstan, directory / "licenses")


class Compiler:
    """Clang, for one CmdStan; what it makes is in a folder for the purpose."""

    def __init__(self, cmdstan: CmdStan, work: Path) -> None:
        self.cmdstan, self.work = cmdstan, work
        shutil.copytree(cmdstan.path / TBB / "include", work / "include")
        header = work / "include" / "tbb" / "task.h"
        text = header.read_text()
        if AMENDED[0] not in text:
            sys.exit(f"TBB's task.h has no {AMENDED[0]!r}: is it another version?")
        header.write_text(text.replace(*AMENDED))

    def tbb(self) -> list[Path]:
        """Compile the files of TBB that its makefile names."""
        root = self.cmdstan.path / TBB
        makefile = (root / "build" / "Makefile.tbb").read_text()
        listed = re.search(r"^TBB_CPLUS\.OBJ = ((?:.*\\\n)*.*)", makefile, re.MULTILINE)
        if listed is None:
            sys.exit(f"The makefile of TBB in {root} lists no files: is it another version?")
        flags = ["-O2", "-std=c++14", "-D__TBB_BUILD=1", "-D__TBB_SOURCE_DIRECTLY_INCLUDED=1"]
        flags += ["-DUSE_PTHREAD", f"-I{root}/src", f"-I{root}/src/rml/include"]
        flags += [f"-I{MATH}/lib/tbb"]  # its version, written when CmdStan was built
        folders = (root / "src" / "tbb", root / "src" / "rml" / "client")
        names = re.findall(r"(\w+)\.\$\(OBJ\)", listed[1])
        files = [f for name in names for f in (d / f"{name}.cpp" for d in folders) if f.exists()]
        return [self.object(file, flags) for file in files]

    def program(self, sources: Sources, libraries: list[Path]) -> Path:
        """Compile the model and CmdStan's main program, with the flags of CmdStan's makefiles."""
        folder = Path(tempfile.mkdtemp(dir=self.work))
        for name, content in sources.files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        self.run(
            "bin/stanc",
            f"--name={sources.name}_model",
            f"--filename-in-msg={sources.name}.stan",
            f"--include-paths={','.join(str(folder / path) for path in sources.include_paths)}",
            "--allow-undefined",
            f"--o={folder}/{sources.name}.hpp",
            f"{folder}/{sources.name}.stan",
        )
        told = self.run(make_program(), "-s", *sources.options, "print-CXXFLAGS", "print-CPPFLAGS")
        flags = [flag for line in told.splitlines() for flag in line.partition(" = ")[2].split()]
        model = self.object(
            folder / f"{sources.name}.hpp", [*flags, "-include", f"{folder}/{sources.user_header}"]
        )
        main_program = self.object(self.cmdstan.path / "src" / "cmdstan" / "main.cpp", flags)
        program = folder / sources.name
        objects = map(str, [main_program, model, *libraries])
        self.run(*CLANG, "-O3", "-s", "-pthread", "-ldl", *objects, "-o", str(program))
        return program

    def object(self, file: Path, flags: list[str]) -> Path:
        """Compile one file."""
        made = self.work / f"{file.stem}.o"
        first = [f"-I{self.work}/include", *flags, *QUIET, "-pthread"]
        self.run(*CLANG, *first, "-c", "-x", "c++", str(file), "-o", str(made))
        return made

    def run(self, *command: str) -> str:
        """Run a command in the folder of CmdStan, to which the flags refer; give what it prints."""
        return subprocess.run(
            command,
            cwd=self.cmdstan.path,
            env=build_environment(),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout


def copy_licenses(cmdstan: CmdStan, folder: Path) -> None:
    """Copy the licences of what is in the programs."""
    folder.mkdir()
    for name, pattern in LICENSES.items():
        shutil.copy(next(cmdstan.path.glob(pattern)), folder / f"{name}.txt")
    clang = importlib.util.find_spec("ziglang")
    if clang is not None and clang.origin:
        library = Path(clang.origin).parent / "lib" / "libcxx"
        shutil.copy(library / "LICENSE.TXT", folder / "libcxx.txt")


if __name__ == "__main__":
    main()
