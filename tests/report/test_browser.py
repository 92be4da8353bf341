"""The page in headless Chromium: drawn at every width, silent, and led by the keyboard."""

from __future__ import annotations

import json
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

import lutra
from lutra.report.write import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt install chromium)"),
]
LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"
# A page of its own that holds the report in a frame as wide as a screen, and asks what is there:
# Chromium's own window is never narrower than 500 pixels.
PROBE = """<!doctype html><iframe id="page" style="border:0;width:WIDTHpx;height:4000px"></iframe>
<pre id="found"></pre><script>
const frame = document.getElementById("page");
frame.onload = () => {
  const page = frame.contentDocument;
  const figures = [...page.querySelectorAll("figure svg")];
  const told = page.getElementById("told");
  const spoken = figures.map((svg) => {
    svg.focus();
    const key = (name) => svg.dispatchEvent(new KeyboardEvent("keydown", {key: name}));
    key("End"); key("ArrowLeft"); key("Home");
    const first = svg.querySelector(".mark").getAttribute("aria-label");
    const right = page.activeElement === svg && !told.hidden && told.textContent === first;
    key("Escape");
    return right && told.hidden;
  });
  document.getElementById("found").textContent = JSON.stringify({
    spoken,
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    drawn: figures.map((svg) => svg.getBoundingClientRect().width),
    text: Math.min(...figures.flatMap((svg) => [...svg.querySelectorAll("text")]
      .map((each) => each.getBoundingClientRect().height))),
    background: getComputedStyle(page.body).backgroundColor,
  });
};
frame.srcdoc = SOURCE;
</script>"""


@pytest.fixture(scope="module")
def page(profiled_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    table = Path(shutil.copy(profiled_once, folder / "fake.lut"))
    lutra.calibrate(table, networks=6)
    lutra.validate(table, networks=4)
    found = lutra.find_networks(table, max_latency_ms=20, algorithm="random")
    write_report([table], [found], folder / "report.html")
    return folder / "report.html"


def chromium(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    quiet = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    watched = ["--enable-logging=stderr", "--virtual-time-budget=3000"]
    command = [CHROMIUM, *quiet, *watched, *options, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
@pytest.mark.parametrize("width", [360, 390, 1280, 1920])
def test_it_is_drawn_and_led_by_keys(page: Path, width: int, scheme: str, tmp_path: Path) -> None:
    source = json.dumps(page.read_text()).replace("</", "<\\/")
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.replace("WIDTH", str(width)).replace("SOURCE", source))
    done = chromium(probe.as_uri(), "--dump-dom", "--window-size=2000,1200", scheme)
    assert "CONSOLE" not in done.stderr, done.stderr
    answer = done.stdout.partition('<pre id="found">')[2].partition("</pre>")[0]
    found = json.loads(unescape(answer))
    assert found["overflow"] <= 0
    assert len(found["drawn"]) == 6
    assert all(0.75 * min(width, 400) < drawn <= width for drawn in found["drawn"])
    assert found["text"] >= 7.0
    assert all(found["spoken"])
    assert (found["background"] == "rgb(255, 255, 255)") == (scheme == LIGHT)


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_by_itself_it_is_silent_and_not_empty(page: Path, scheme: str, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    done = chromium(page.as_uri(), f"--screenshot={picture}", "--window-size=1280,2400", scheme)
    assert "CONSOLE" not in done.stderr, done.stderr
    with Image.open(picture) as image:
        colours = image.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 200
