"""The numbers of docs/scaling.md are those of the plans."""

from .benchmarks.arithmetic import BEGIN, END, PAGE, load_of, table


def test_scaling_page__has_the_table_that_the_plans_make():
    assert PAGE.read_text().split(BEGIN)[1].split(END)[0] == table()


def test_load_of__counts_what_is_read_and_written():
    # 8 chunks of the base, 8 of level 0 and one of level 1 in a single region.
    load = load_of((128, 128, 128), None)
    assert (load.levels, load.regions, load.gets, load.puts) == (2, 1, 8, 9)
    assert load.read == 128**3 * 2
    assert load.written == 128**3 * 2 + 64**3 * 2
