"""What comes from other people - experiment files, stores, predictions, data - is data: none of it is run.

One module for each format. Each checks how large its content would be before anything of that size is allocated, and
raises ValueError with the reason; the caller adds the file's name and raises popnet's own error.

What a file can make popnet do is bounded: text by its length, nesting and expansion (`texts`), arrays by the size of
the file that holds them (`arrays`), a ledger's rows by the ledger's size (`ledgers`), and names of files by a pattern,
so that a store's content stays in the store's folder (`files`). The limits are far above what popnet writes.
"""
