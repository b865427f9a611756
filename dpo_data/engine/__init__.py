"""Where work runs: an ordered map over items, in this process or in several."""
