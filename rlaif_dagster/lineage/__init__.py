"""Lineage in Dagster's terms: the graph read out of the definitions, the study's plan and status, its runs and backfills."""
