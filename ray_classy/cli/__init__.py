"""The program `ray-classy`: train, check and list."""
