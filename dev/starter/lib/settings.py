"""The application's own settings, which every program checks together with the package's."""

from __future__ import annotations

from lib.onetrip.settings.checked import CheckedSettings

# Classes with a field for each variable, as lib/onetrip/settings/checked.py shows.
# A route finds their values by services_of(request).settings.own(MailSettings).
OWN: tuple[type[CheckedSettings], ...] = ()
