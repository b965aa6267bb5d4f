"""Every experiment of the dissertation (McGuinness 2022) by one command, in a small and in the paper's size."""
