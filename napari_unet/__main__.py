"""Lets ``python -m napari_unet`` be the command line too."""

from napari_unet.cli import main

main()
