"""The application's own settings, which every program checks together with the package's."""

from lib.example.settings import ExampleSettings

OWN = (ExampleSettings,)
