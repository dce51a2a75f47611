"""Anybody's runs, as their tools and hands write them down, to landscapes."""
