"""How it is measured: runs into tables, calibration, what a device is fit for."""
