//! Sizes that real programs asked for: `rcumalloc-bench trace` of each, its blocks below 64 KiB sorted by
//! size and cut into 64 equal parts, of each part the size in its middle. A pair is a size and how many of
//! the 64 have it.

/// A program's sizes.
#[derive(Debug, PartialEq, Eq)]
pub struct Recorded {
    pub program: &'static str,
    pub sizes: &'static [(u16, u8)],
}

pub static ALL: &[Recorded] = &[
    // Hashes of strings.
    Recorded {
        program: "perl",
        #[rustfmt::skip]
        sizes: &[
            (10, 25), (12, 1), (16, 1), (24, 4), (32, 2), (35, 1), (37, 1), (38, 4), (40, 3), (48,
            2), (56, 2), (64, 1), (72, 3), (80, 1), (88, 2), (96, 1), (104, 1), (112, 1), (120, 1),
            (128, 1), (136, 1), (152, 1), (160, 1), (184, 1), (216, 1), (272, 1),
        ],
    },
    // An array of strings, split and substituted.
    Recorded {
        program: "gawk",
        #[rustfmt::skip]
        sizes: &[
            (1, 2), (2, 6), (3, 2), (4, 3), (5, 3), (6, 2), (7, 3), (8, 16), (10, 1), (12, 1), (14,
            1), (16, 1), (18, 1), (20, 1), (23, 1), (24, 1), (26, 1), (28, 1), (29, 1), (32, 1),
            (33, 1), (36, 1), (39, 1), (42, 1), (48, 1), (56, 1), (68, 1), (80, 1), (92, 1), (96,
            1), (108, 1), (120, 1), (136, 1), (152, 1), (168, 1),
        ],
    },
    // Log --stat of sixty commits.
    Recorded {
        program: "git",
        #[rustfmt::skip]
        sizes: &[
            (8, 1), (16, 1), (22, 1), (24, 5), (27, 1), (31, 1), (37, 1), (42, 1), (48, 4), (56, 1),
            (60, 1), (65, 1), (72, 3), (97, 1), (114, 1), (122, 1), (129, 1), (152, 1), (188, 1),
            (205, 1), (240, 1), (294, 1), (345, 1), (464, 1), (536, 1), (597, 1), (752, 1), (1005,
            1), (1136, 1), (1368, 1), (1616, 1), (1872, 1), (2048, 1), (2096, 1), (2320, 1), (2472,
            1), (2602, 1), (2832, 1), (3120, 1), (3432, 1), (3824, 1), (4096, 1), (4368, 1), (6112,
            1), (7160, 6), (8192, 1), (10376, 1), (14220, 1), (32768, 2),
        ],
    },
    // A C file of one function and three headers, -O2.
    Recorded {
        program: "cc1",
        #[rustfmt::skip]
        sizes: &[
            (5, 1), (6, 1), (8, 2), (9, 3), (10, 3), (11, 3), (12, 3), (13, 2), (14, 3), (15, 2),
            (16, 1), (17, 1), (19, 1), (21, 1), (24, 1), (38, 1), (48, 1), (56, 4), (64, 10), (88,
            5), (96, 1), (156, 1), (312, 1), (656, 1), (1056, 1), (1544, 1), (2008, 1), (2440, 1),
            (3200, 7),
        ],
    },
    // An array of strings.
    Recorded {
        program: "php",
        #[rustfmt::skip]
        sizes: &[
            (1, 1), (8, 1), (13, 1), (16, 1), (18, 1), (24, 14), (32, 10), (40, 8), (48, 4), (56,
            2), (64, 3), (80, 1), (96, 1), (104, 1), (112, 1), (136, 11), (160, 1), (320, 1), (640,
            1),
        ],
    },
    // Objects to JSON and back; what its C++ parts allocate.
    Recorded {
        program: "node",
        #[rustfmt::skip]
        sizes: &[
            (4, 18), (7, 3), (10, 1), (14, 1), (16, 4), (21, 1), (24, 9), (32, 19), (40, 1), (48,
            1), (64, 1), (128, 1), (384, 1), (640, 2), (1104, 1),
        ],
    },
    // JSON and syntax trees; what is beyond its own heap.
    Recorded {
        program: "python3",
        #[rustfmt::skip]
        sizes: &[
            (5, 1), (20, 1), (28, 1), (32, 3), (36, 1), (40, 1), (48, 1), (52, 1), (64, 1), (104,
            1), (527, 1), (568, 1), (608, 1), (616, 1), (640, 1), (657, 1), (736, 1), (752, 1),
            (768, 4), (864, 1), (888, 1), (960, 5), (962, 1), (1024, 2), (1080, 1), (1184, 1),
            (1284, 1), (1376, 1), (1520, 1), (1600, 1), (1856, 1), (2144, 1), (2464, 1), (2816, 1),
            (2848, 1), (3264, 1), (3648, 1), (4096, 1), (4736, 1), (5983, 1), (6880, 1), (8192, 1),
            (8224, 9), (8352, 1), (9952, 1), (32816, 1),
        ],
    },
    // A table, an index, a query.
    Recorded {
        program: "sqlite3",
        #[rustfmt::skip]
        sizes: &[
            (16, 31), (32, 31), (112, 1), (4368, 1),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_sixty_four_parts_in_order() {
        for recorded in ALL {
            assert_eq!(
                recorded.sizes.iter().map(|pair| u32::from(pair.1)).sum::<u32>(),
                64,
                "{}",
                recorded.program
            );
            assert!(recorded.sizes.is_sorted_by(|a, b| a.0 < b.0), "{}", recorded.program);
        }
    }
}
