"""Builds the C extension `engine._codec` from `codec_c/`.

    python build_codec.py                            compile in place, next to the package's sources
    MEDIA_ENGINE_SANITIZE=1 python build_codec.py    the same under the address and undefined-behaviour sanitizers

setuptools finds `BuildCodec` through pyproject.toml, so wheels, sdists and editable installs take the same path. cffi writes the
Python side of the extension from `codec_c/declarations.txt`; it keeps to the limited API, so one wheel per platform serves
every Python from 3.11 on.
"""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
C_SOURCES = ROOT / "codec_c"

# Sound files, Twilio and the voice providers all say little-endian; converting on big-endian hosts is not worth its code.
PREAMBLE = """
#include "frame_timer.h"
#include "g711.h"
#include "mover.h"
#include "polyphase.h"
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the codec's samples are little-endian, and so must the host be"
#endif
"""

# Distributions build Python, and with it its extensions, with -O2 at times: too little for the sums of products in polyphase.c.
OPTIMIZE = ["-O3"]
WARNINGS = ["-std=c11", "-Wall", "-Wextra"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g"]


def cffi_builder(module: str) -> FFI:
    """The generator of the Python side of `module`: the declarations, and the headers that fulfil them."""
    builder = FFI()
    builder.cdef((C_SOURCES / "declarations.txt").read_text(encoding="ascii"))
    builder.set_source(module, PREAMBLE)
    return builder


class BuildCodec(build_ext):
    """setuptools' `build_ext`, with cffi's generated C added to the sources of the extension."""

    def build_extension(self, ext: Extension) -> None:
        """Generate the C of `ext`'s Python side in the build directory, then compile everything."""
        generated = Path(self.build_temp) / (ext.name.rpartition(".")[2] + ".c")
        generated.parent.mkdir(parents=True, exist_ok=True)
        cffi_builder(ext.name).emit_c_code(str(generated))
        ext.sources = [*ext.sources, str(generated)]
        ext.extra_compile_args = [*ext.extra_compile_args, *OPTIMIZE, *WARNINGS]
        self.force = True  # file dates do not tell whether the last build had the sanitizers
        if os.environ.get("MEDIA_ENGINE_SANITIZE") == "1":
            ext.extra_compile_args += SANITIZERS
            ext.extra_link_args = [*ext.extra_link_args, *SANITIZERS]
        super().build_extension(ext)


if __name__ == "__main__":
    os.chdir(ROOT)
    setup(script_args=["build_ext", "--inplace"])
