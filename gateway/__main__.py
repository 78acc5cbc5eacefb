"""`python -m gateway` is `yjs-gateway`."""

if __name__ == "__main__":  # a worker process for heavy work imports the main module too, and must not serve
    from gateway.cli.main import main

    main()
