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
WIDTHS = (360, 390, 1280, 1920)
# A page of its own that holds the report in frames as wide as screens, and asks what is there:
# Chromium's own window is never narrower than 500 pixels.
PROBE = """<!doctype html><pre id="found"></pre><script>
const asked = (page) => {
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
  return {
    spoken,
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    drawn: figures.map((svg) => svg.getBoundingClientRect().width),
    text: Math.min(...figures.flatMap((svg) => [...svg.querySelectorAll("text")]
      .map((each) => each.getBoundingClientRect().height))),
    background: getComputedStyle(page.body).backgroundColor,
  };
};
const found = {}, widths = WIDTHS;
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style = `display:block;border:0;width:${width}px;height:4000px`;
  frame.srcdoc = SOURCE;
  frame.onload = () => {
    found[width] = asked(frame.contentDocument);
    if (Object.keys(found).length === widths.length)
      document.getElementById("found").textContent = JSON.stringify(found);
  };
  document.body.append(frame);
}
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
def test_it_is_drawn_and_led_by_keys(page: Path, scheme: str, tmp_path: Path) -> None:
    """At every width; one start of Chromium is most of what a look at the page takes."""
    source = json.dumps(page.read_text()).replace("</", "<\\/")
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.replace("WIDTHS", str(list(WIDTHS))).replace("SOURCE", source))
    done = chromium(probe.as_uri(), "--dump-dom", "--window-size=2000,1200", scheme)
    assert "CONSOLE" not in done.stderr, done.stderr
    answer = done.stdout.partition('<pre id="found">')[2].partition("</pre>")[0]
    answers = json.loads(unescape(answer))
    assert list(answers) == [str(width) for width in WIDTHS]
    for width in WIDTHS:
        found = answers[str(width)]
        assert found["overflow"] <= 0, width
        assert len(found["drawn"]) == 6, width
        assert all(0.75 * min(width, 400) < drawn <= width for drawn in found["drawn"]), width
        assert found["text"] >= 7.0, width
        assert all(found["spoken"]), width
        assert (found["background"] == "rgb(255, 255, 255)") == (scheme == LIGHT), width


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_by_itself_it_is_silent_and_not_empty(page: Path, scheme: str, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    done = chromium(page.as_uri(), f"--screenshot={picture}", "--window-size=1280,2400", scheme)
    assert "CONSOLE" not in done.stderr, done.stderr
    with Image.open(picture) as image:
        colours = image.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 200
