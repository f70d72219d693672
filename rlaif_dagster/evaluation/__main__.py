"""`python -m rlaif_dagster.evaluation`: lm-eval's own command line, with the model `hf-prefix-sharing` registered.

lm-eval has no plug-in mechanism for models; importing the class before its command line runs is what registers it.
"""

from __future__ import annotations


def main() -> None:
    """lm-eval's command line; arguments and exit status are its own."""
    from lm_eval.__main__ import cli_evaluate

    import rlaif_dagster.evaluation.hf_prefix_sharing  # noqa: F401  # registers the model

    cli_evaluate()


if __name__ == "__main__":
    main()
