"""Builds the extension modules. Everything else about the package is in pyproject.toml."""

import glob
import os
import re
import sysconfig
import threading

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

DEBUG = os.environ.get("SGDM_DEBUG", "0") not in ("", "0")
SANITIZE = os.environ.get("SGDM_SANITIZE", "")  # a value for the compiler's -fsanitize, like "address,undefined"

# The Limited API: one wheel serves CPython 3.11 and later. Free-threaded CPython has no Limited API before 3.15.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": DEBUG,
    "wraparound": DEBUG,
    "initializedcheck": DEBUG,
    "cdivision": not DEBUG,
    "auto_pickle": False,
    "freethreading_compatible": True,
}

# No fused multiply-add (-ffp-contract=off): so all CPUs give the same bits. Never -ffast-math (see CONTRIBUTING.md).
UNIX_FLAGS = ["-O1", "-g", "-UNDEBUG"] if DEBUG else []
UNIX_FLAGS += ["-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"]
# Python's -fwrapv keeps gcc from simplifying addresses: an epoch over 1 000 000 x 50 takes 29 ms with it, 24 without.
UNIX_FLAGS += ["-fno-wrapv"]
SANITIZER_FLAGS = []
if SANITIZE:  # -g would build three times as long; Python's own flag -fwrapv would hide signed overflow
    SANITIZER_FLAGS = ["-O1", "-g1", f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all"]
    SANITIZER_FLAGS += ["-fno-omit-frame-pointer"]

# The loops over rows are in one module. The others are a fifth smaller with -O2, and as fast; those that only hold and
# check what others read are a fifth smaller still with -Os.
OPTIMISATION = {"sgdm._kernel.rows": "-O3", "sgdm._kernel.nouns": "-Os", "sgdm._kernel.checks": "-Os"}

ADVICE = """\
sgdm is compiled as it is installed, which takes a C compiler and the C headers of Python and of the C library:
    Debian, Ubuntu    apt-get install build-essential python3-dev
    Fedora            dnf install gcc python3-devel
    macOS             xcode-select --install
    Windows           the workload "Desktop development with C++" of Microsoft's Build Tools for Visual Studio
The compiler's own messages, if there is a compiler, are above."""


class BuildExt(build_ext):
    """Compiles on all CPUs. C files of Cython go to the build directory, so that no sdist or wheel contains them."""

    cython = threading.Lock()  # Cython is for one thread at a time

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext):
        from Cython.Build import cythonize

        if self.compiler.compiler_type == "msvc":
            ext.extra_compile_args = ["/std:c11"]
        else:
            optimisation = [] if DEBUG else [OPTIMISATION.get(ext.name, "-O2")]
            ext.extra_compile_args = UNIX_FLAGS + optimisation + SANITIZER_FLAGS
            ext.extra_link_args = SANITIZER_FLAGS
            if not DEBUG and not SANITIZE and os.name == "posix" and os.uname().sysname == "Linux":
                ext.extra_link_args = ["-Wl,--strip-all"]
        with self.cython:
            (translated,) = cythonize(
                [ext],
                build_dir=os.path.join(self.build_temp, "cython"),
                compiler_directives=DIRECTIVES,
                force=True,  # a debug build must not reuse the C of a release build
                quiet=True,
            )
        sources, ext.sources = ext.sources, translated.sources
        try:
            super().build_extension(ext)
        except (CCompilerError, ExecError, PlatformError) as error:
            raise type(error)(f"{error}\n\n{ADVICE}") from error
        ext.sources = sources


KERNEL = "sgdm/_kernel"
ARITHMETIC = f"{KERNEL}/arithmetic"
LEVELS = [f"{ARITHMETIC}/{name}.c" for name in ("levels", "level_baseline", "level_v3", "level_v4")]


def extension(name, sources=()):
    """The extension module of one Cython file, and of C files."""
    return Extension(
        f"sgdm._kernel.{name}",
        [f"{KERNEL}/{name}.pyx", *sources],
        include_dirs=[KERNEL],
        depends=[*glob.glob(f"{KERNEL}/*.pxd"), *glob.glob(f"{ARITHMETIC}/*.h")],
        define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED else [],
        py_limited_api=LIMITED,
    )


def description():
    """README for a package index, which has no files beside it: without pictures, and with links to the web only."""
    with open("README.md", encoding="utf-8") as file:
        text = re.sub(r"<img [^>]*>\n*", "", file.read())
    return re.sub(r"\[([^]]+)\]\((?!https?:)[^)]*\)", r"\1", text)


setup(
    long_description=description(),
    long_description_content_type="text/markdown",
    ext_modules=[
        extension("rows", LEVELS),  # it takes the longest
        *map(extension, ("many", "descent", "reduction", "nouns", "checks")),
    ],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
)
