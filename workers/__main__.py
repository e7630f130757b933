"""``python -m workers`` is ``pacsight``."""

from workers.cli import main

if __name__ == "__main__":
    main()
