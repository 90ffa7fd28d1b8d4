//! The note that tells profilers of a probe: directives of the assembler's, the same for each processor.

/// A probe of the kind that SystemTap has made usual: provider `otel_memory`, as profilers expect it of
/// allocators. There is no semaphore.
macro_rules! probe_note {
    ($name:literal, $arguments:literal) => {
        concat!(
            "990: nop\n",
            ".pushsection .note.stapsdt, \"\", @note\n",
            ".balign 4\n",
            ".4byte 992f - 991f, 994f - 993f, 3\n",
            "991: .asciz \"stapsdt\"\n",
            "992: .balign 4\n",
            "993: .8byte 990b, {base}, 0\n",
            ".asciz \"otel_memory\"\n",
            ".asciz \"",
            $name,
            "\"\n.asciz \"",
            $arguments,
            "\"\n",
            "994: .balign 4\n",
            ".popsection"
        )
    };
}

pub(crate) use probe_note;
