//! The names of well-known ports.
//!
//! From IANA's "Service Name and Transport Protocol Port Number Registry" (RFC 6335): the ports that a household's
//! traffic is for, not all 6,000. A name that the registry gives to both transports although one alone is in use
//! stands with that one, so that a stray packet of the other is not called what it is not.

use Transport::{Both, Tcp, Udp};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Over which protocol a port has its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
    Both,
}

/// In the order of the ports, at most one name for each protocol.
#[rustfmt::skip]
const PORTS: &[(u16, Transport, &str)] = &[
    (7, Both, "echo"),
    (9, Both, "discard"),
    (20, Tcp, "ftp-data"),
    (21, Tcp, "ftp"),
    (22, Tcp, "ssh"),
    (23, Tcp, "telnet"),
    (25, Tcp, "smtp"),
    (37, Both, "time"),
    (43, Tcp, "nicname"),
    (53, Both, "domain"),
    (67, Udp, "bootps"),
    (68, Udp, "bootpc"),
    (69, Udp, "tftp"),
    (79, Tcp, "finger"),
    (80, Both, "http"),
    (88, Both, "kerberos"),
    (110, Tcp, "pop3"),
    (111, Both, "sunrpc"),
    (113, Tcp, "ident"),
    (119, Tcp, "nntp"),
    (123, Udp, "ntp"),
    (135, Both, "epmap"),
    (137, Both, "netbios-ns"),
    (138, Both, "netbios-dgm"),
    (139, Both, "netbios-ssn"),
    (143, Tcp, "imap"),
    (161, Udp, "snmp"),
    (162, Udp, "snmptrap"),
    (179, Tcp, "bgp"),
    (389, Both, "ldap"),
    (427, Both, "svrloc"),
    (443, Both, "https"),
    (445, Both, "microsoft-ds"),
    (464, Both, "kpasswd"),
    (465, Tcp, "submissions"),
    (500, Udp, "isakmp"),
    (512, Tcp, "exec"),
    (512, Udp, "comsat"),
    (513, Tcp, "login"),
    (513, Udp, "who"),
    (514, Tcp, "shell"),
    (514, Udp, "syslog"),
    (515, Tcp, "printer"),
    (520, Udp, "router"),
    (546, Udp, "dhcpv6-client"),
    (547, Udp, "dhcpv6-server"),
    (548, Tcp, "afpovertcp"),
    (554, Both, "rtsp"),
    (563, Tcp, "nntps"),
    (587, Tcp, "submission"),
    (623, Udp, "asf-rmcp"),
    (631, Both, "ipp"),
    (636, Tcp, "ldaps"),
    (853, Both, "domain-s"),
    (873, Tcp, "rsync"),
    (989, Tcp, "ftps-data"),
    (990, Tcp, "ftps"),
    (993, Tcp, "imaps"),
    (995, Tcp, "pop3s"),
    (1080, Tcp, "socks"),
    (1194, Both, "openvpn"),
    (1433, Tcp, "ms-sql-s"),
    (1434, Udp, "ms-sql-m"),
    (1701, Udp, "l2tp"),
    (1723, Tcp, "pptp"),
    (1812, Udp, "radius"),
    (1813, Udp, "radius-acct"),
    (1883, Tcp, "mqtt"),
    (1900, Udp, "ssdp"),
    (1935, Tcp, "macromedia-fcs"),
    (2049, Both, "nfs"),
    (2375, Tcp, "docker"),
    (2376, Tcp, "docker-s"),
    (3074, Both, "xbox"),
    (3260, Tcp, "iscsi-target"),
    (3306, Tcp, "mysql"),
    (3389, Both, "ms-wbt-server"),
    (3478, Both, "stun"),
    (3493, Tcp, "nut"),
    (3544, Udp, "teredo"),
    (3551, Tcp, "apcupsd"),
    (3689, Tcp, "daap"),
    (3702, Udp, "ws-discovery"),
    (4500, Udp, "ipsec-nat-t"),
    (5060, Both, "sip"),
    (5061, Both, "sips"),
    (5222, Tcp, "xmpp-client"),
    (5269, Tcp, "xmpp-server"),
    (5349, Both, "stuns"),
    (5350, Udp, "pcp-multicast"),
    (5351, Udp, "pcp"),
    (5353, Udp, "mdns"),
    (5355, Udp, "llmnr"),
    (5357, Tcp, "wsdapi"),
    (5432, Tcp, "postgresql"),
    (5671, Tcp, "amqps"),
    (5672, Tcp, "amqp"),
    (5683, Udp, "coap"),
    (5684, Udp, "coaps"),
    (5900, Tcp, "rfb"),
    (5985, Tcp, "wsman"),
    (5986, Tcp, "wsmans"),
    (6379, Tcp, "redis"),
    (6514, Tcp, "syslog-tls"),
    (6697, Tcp, "ircs-u"),
    (7680, Tcp, "ms-do"),
    (8008, Tcp, "http-alt"),
    (8080, Tcp, "http-alt"),
    (8443, Tcp, "pcsync-https"),
    (8554, Both, "rtsp-alt"),
    (8883, Tcp, "secure-mqtt"),
    (9100, Tcp, "pdl-datastream"),
    (9418, Tcp, "git"),
    (10050, Tcp, "zabbix-agent"),
    (10051, Tcp, "zabbix-trapper"),
    (11211, Tcp, "memcache"),
    (27017, Tcp, "mongodb"),
    (32400, Tcp, "plex"),
];

/// The name of the service at this port, by IANA; `None`: not a well-known one, or neither TCP nor UDP.
#[must_use]
pub fn service(protocol: u8, port: u16) -> Option<&'static str> {
    let over = match protocol {
        TCP => Tcp,
        UDP => Udp,
        _ => return None,
    };
    let first = PORTS.partition_point(|(known, ..)| *known < port);
    let of_port = PORTS[first..].iter().take_while(|(known, ..)| *known == port);
    of_port.into_iter().find(|(_, by, _)| *by == over || *by == Both).map(|(.., name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_its_name_by_protocol() {
        for (protocol, port, expected) in [
            (TCP, 443, Some("https")),
            (UDP, 443, Some("https")),
            (TCP, 22, Some("ssh")),
            (UDP, 22, None),
            (UDP, 53, Some("domain")),
            (TCP, 53, Some("domain")),
            (UDP, 123, Some("ntp")),
            (UDP, 5353, Some("mdns")),
            (TCP, 514, Some("shell")),
            (UDP, 514, Some("syslog")),
            (TCP, 7, Some("echo")),
            (TCP, 27_017, Some("mongodb")),
            (TCP, 0, None),
            (TCP, 50_000, None),
            (132, 443, None),
            (1, 7, None),
        ] {
            assert_eq!(service(protocol, port), expected, "{protocol} {port}");
        }
    }

    #[test]
    fn the_table_is_in_order_and_says_nothing_twice() {
        for pair in PORTS.windows(2) {
            let ((before, by_before, name), (port, by, _)) = (pair[0], pair[1]);
            let apart = by_before != by && by_before != Both && by != Both;
            assert!(before < port || (before == port && apart), "{port} after {before} {name}");
        }
        // What it takes in a cell is bounded.
        assert!(
            PORTS.iter().all(|(.., name)| name.len() <= 15 && !name.is_empty()),
            "RFC 6335 allows 15 letters"
        );
    }
}
