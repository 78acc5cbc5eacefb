"""`python -m gateway` is `yjs-gateway`."""

from gateway.imports import collect_rarely


def main() -> None:
    """Run the command."""
    collect_rarely()
    from gateway.cli.main import main as command

    command()


if __name__ == "__main__":  # a worker process for heavy work imports the main module too, and must not serve
    main()
