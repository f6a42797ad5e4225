"""How values are shown in templates."""

from experiments.templatetags.lab import clipped, dated


def test_a_date_within_a_sentence_is_kept_on_one_line() -> None:
    told = dated("paused by <ana> since 2026-01-02 12:00, away since 2026-01-02 12:00:30 UTC, on 2026-01-02.")
    assert told == (
        'paused by &lt;ana&gt; since <span class="lab-nowrap">2026-01-02 12:00</span>, away since '
        '<span class="lab-nowrap">2026-01-02 12:00:30</span> UTC, on <span class="lab-nowrap">2026-01-02</span>.'
    )


def test_a_clipped_text_is_escaped_wherever_it_stands() -> None:
    assert clipped('<b> "x"') == (
        '<span class="lab-clip" title="&lt;b&gt; &quot;x&quot;">&lt;b&gt; &quot;x&quot;</span>'
    )
