"""A scene in a browser, from any camera, while it trains or afterwards. It needs viser."""

from dietnerf.viewer.server import Viewer as Viewer
