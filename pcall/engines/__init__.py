"""Where calls run: in this process, or in forked processes of this machine."""
