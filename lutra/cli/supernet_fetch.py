"""lutra supernet fetch: a published supernet's weights."""

from __future__ import annotations

from pathlib import Path

import click

from lutra.cli.options import FILE, as_json
from lutra.cli.output import line, note, print_json, progress
from lutra.errors import UsageError

_KIB = 1 << 10


@click.command("fetch")
@click.argument("name")
@click.option("-o", "--output", type=FILE, help="The file; by default NAME.pth.")
@click.option("--url", help="Another address, of a checkpoint of the space NAME.")
@click.option("--sha256", metavar="HEX", help="Refuse a file with another digest.")
@as_json
def fetch(
    name: str, output: Path | None, url: str | None, sha256: str | None, as_json: bool
) -> None:
    """Download the checkpoint of a supernet that OFA's authors publish.

    NAME is theirs (ofa_mbv3_d234_e346_k357_w1.0) or the space's (ofa-mbv3-w1.0). Cut off, the
    same command goes on. The file is read as a supernet of that space before it is put in place.
    """
    from lutra.supernets.checkpoints.fetch import fetch_supernet, published

    known = None if url is not None else published(name)
    space, address = (name, url or "") if known is None else (known.space, known.address)
    if output is None and "/" in name:
        raise UsageError("name the file to write with -o")
    path = output or Path(f"{name}.pth")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for {path.name}")
    with progress("KiB") as report:
        fetched = fetch_supernet(
            address,
            space,
            path,
            sha256=sha256,
            on_progress=lambda received, expected, eta_seconds: report(
                received // _KIB, (expected or received) // _KIB, eta_seconds
            ),
        )
    if as_json:
        print_json(fetched.to_json())
        return
    line(fetched.path)
    if fetched.resumed_bytes:
        note(f"{fetched.resumed_bytes} of {fetched.size_bytes} bytes had come before")
    note(f"{fetched.size_bytes} bytes, a supernet of {fetched.space}, SHA-256 {fetched.sha256}")
    if fetched.recorded is not None:
        note(f"before, the file of this name had the SHA-256 {fetched.recorded}")
    if sha256 is None:
        note("the publisher gives no digest to compare with: --sha256 demands this one next time")
