"""Lets Hydra find the configurations of packages that are plugins of deitlt.

Hydra looks for what changes its search path in the namespace `hydra_plugins` and nowhere else, so this file lies here.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from deitlt.config.trust import plugin_folders


class PluginConfigs(SearchPathPlugin):
    """Adds the folder `conf` of each package that declares the entry point `deitlt.plugins`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append them behind ours, whose files go first."""
        for folder in plugin_folders():
            search_path.append("deitlt.plugins", f"file://{folder}")
