//! Files in MaxMind's format, for tests.

/// A file in the format, made by hand: one tree of 24-bit records over IPv4, one network, and its data.
/// <https://maxmind.github.io/MaxMind-DB/>
pub(crate) fn mmdb(network: [u8; 4], prefix: u8, data: &[u8]) -> Vec<u8> {
    let nodes = u32::from(prefix);
    let (nothing, record) = (nodes, nodes + 16);
    let mut file = Vec::new();
    for depth in 0..prefix {
        let bit = network[usize::from(depth / 8)] >> (7 - depth % 8) & 1;
        let next = if depth + 1 == prefix { record } else { u32::from(depth) + 1 };
        let pair = if bit == 0 { [next, nothing] } else { [nothing, next] };
        pair.iter().for_each(|record| file.extend(&record.to_be_bytes()[1..]));
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    let meta: Vec<(&str, Vec<u8>)> = vec![
        ("binary_format_major_version", short(2)),
        ("binary_format_minor_version", short(0)),
        ("build_epoch", vec![1, 2, 1]),
        ("database_type", string("test")),
        ("description", map(&[])),
        ("ip_version", short(4)),
        ("languages", vec![0, 4]),
        ("node_count", number(nodes)),
        ("record_size", short(24)),
    ];
    file.extend(map(&meta));
    file
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut out = vec![2 << 5 | u8::try_from(text.len()).unwrap()];
    if text.len() >= 29 {
        out = vec![2 << 5 | 29, u8::try_from(text.len() - 29).unwrap()];
    }
    out.extend(text.as_bytes());
    out
}

fn short(value: u16) -> Vec<u8> {
    [vec![5 << 5 | 2], value.to_be_bytes().to_vec()].concat()
}

pub(crate) fn number(value: u32) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    [vec![6 << 5 | 4], bytes.to_vec()].concat()
}

pub(crate) fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![7 << 5 | u8::try_from(entries.len()).unwrap()];
    for (key, value) in entries {
        out.extend(string(key));
        out.extend(value);
    }
    out
}
