"""``python -m lutra.devices.worker``: a worker on stdin and stdout."""

from lutra.devices.worker.loop import main

main()
