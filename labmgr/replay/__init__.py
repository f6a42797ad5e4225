"""Sending a recorded or made-up workload through a throwaway labmgr with simulated devices."""
