//! Names of well-known services by port.
//!
//! From the IANA Service Name and Transport Protocol Port Number Registry, as far as the names are in common use:
//! <https://www.iana.org/assignments/service-names-port-numbers>. The table is compiled in, so that every agent and every
//! restart gives a port the same name.

use crate::model::protocol;

/// From here on ports are for whoever asks, never for a service (RFC 6335, section 6).
pub const FIRST_DYNAMIC: u16 = 49_152;

/// Ports that mean the same for every transport, ascending.
const SERVICES: &[(u16, &str)] = &[
    (7, "echo"),
    (9, "discard"),
    (13, "daytime"),
    (17, "qotd"),
    (19, "chargen"),
    (20, "ftp-data"),
    (21, "ftp"),
    (22, "ssh"),
    (23, "telnet"),
    (25, "smtp"),
    (37, "time"),
    (43, "nicname"),
    (49, "tacacs"),
    (53, "domain"),
    (67, "bootps"),
    (68, "bootpc"),
    (69, "tftp"),
    (70, "gopher"),
    (79, "finger"),
    (80, "http"),
    (88, "kerberos"),
    (102, "iso-tsap"),
    (110, "pop3"),
    (111, "sunrpc"),
    (113, "auth"),
    (119, "nntp"),
    (123, "ntp"),
    (135, "epmap"),
    (137, "netbios-ns"),
    (138, "netbios-dgm"),
    (139, "netbios-ssn"),
    (143, "imap"),
    (161, "snmp"),
    (162, "snmptrap"),
    (177, "xdmcp"),
    (179, "bgp"),
    (194, "irc"),
    (319, "ptp-event"),
    (320, "ptp-general"),
    (389, "ldap"),
    (427, "svrloc"),
    (443, "https"),
    (445, "microsoft-ds"),
    (464, "kpasswd"),
    (465, "submissions"),
    (500, "isakmp"),
    (515, "printer"),
    (520, "router"),
    (521, "ripng"),
    (546, "dhcpv6-client"),
    (547, "dhcpv6-server"),
    (548, "afpovertcp"),
    (554, "rtsp"),
    (563, "nntps"),
    (587, "submission"),
    (593, "http-rpc-epmap"),
    (623, "asf-rmcp"),
    (631, "ipp"),
    (636, "ldaps"),
    (646, "ldp"),
    (655, "tinc"),
    (749, "kerberos-adm"),
    (830, "netconf-ssh"),
    (853, "domain-s"),
    (860, "iscsi"),
    (873, "rsync"),
    (989, "ftps-data"),
    (990, "ftps"),
    (993, "imaps"),
    (995, "pop3s"),
    (1080, "socks"),
    (1194, "openvpn"),
    (1433, "ms-sql-s"),
    (1434, "ms-sql-m"),
    (1521, "ncube-lm"),
    (1701, "l2tp"),
    (1719, "h323gatestat"),
    (1720, "h323hostcall"),
    (1723, "pptp"),
    (1812, "radius"),
    (1813, "radius-acct"),
    (1883, "mqtt"),
    (1900, "ssdp"),
    (2049, "nfs"),
    (2055, "iop"),
    (2181, "eforward"),
    (2379, "etcd-client"),
    (2380, "etcd-server"),
    (3128, "ndl-aas"),
    (3260, "iscsi-target"),
    (3268, "msft-gc"),
    (3269, "msft-gc-ssl"),
    (3306, "mysql"),
    (3389, "ms-wbt-server"),
    (3478, "stun"),
    (3544, "teredo"),
    (3690, "svn"),
    (3702, "ws-discovery"),
    (3784, "bfd-control"),
    (3785, "bfd-echo"),
    (4190, "sieve"),
    (4369, "epmd"),
    (4500, "ipsec-nat-t"),
    (4739, "ipfix"),
    (4789, "vxlan"),
    (5004, "avt-profile-1"),
    (5005, "avt-profile-2"),
    (5060, "sip"),
    (5061, "sips"),
    (5222, "xmpp-client"),
    (5269, "xmpp-server"),
    (5349, "stuns"),
    (5351, "nat-pmp"),
    (5353, "mdns"),
    (5355, "llmnr"),
    (5432, "postgresql"),
    (5671, "amqps"),
    (5672, "amqp"),
    (5683, "coap"),
    (5684, "coaps"),
    (5900, "rfb"),
    (5985, "wsman"),
    (5986, "wsmans"),
    (6000, "x11"),
    (6081, "geneve"),
    (6343, "sflow"),
    (6379, "redis"),
    (6514, "syslog-tls"),
    (6566, "sane-port"),
    (6653, "openflow"),
    (6667, "ircu"),
    (6697, "ircs-u"),
    (8080, "http-alt"),
    (8443, "pcsync-https"),
    (8883, "secure-mqtt"),
    (9000, "cslistener"),
    (9100, "pdl-datastream"),
    (9418, "git"),
    (10000, "ndmp"),
    (10050, "zabbix-agent"),
    (10051, "zabbix-trapper"),
    (11211, "memcache"),
    (27017, "mongodb"),
];

/// Ports that mean another thing for UDP than for TCP: name for TCP, for UDP.
const BY_TRANSPORT: &[(u16, Option<&str>, Option<&str>)] = &[
    (512, Some("exec"), Some("biff")),
    (513, Some("login"), Some("who")),
    (514, Some("shell"), Some("syslog")),
];

/// The name of the service at a port; `None` where there is none in common use.
#[must_use]
pub fn service(protocol: u8, port: u16) -> Option<&'static str> {
    if let Ok(found) = SERVICES.binary_search_by_key(&port, |(port, _)| *port) {
        return SERVICES.get(found).map(|(_, name)| *name);
    }
    let (_, stream, datagram) = BY_TRANSPORT.iter().find(|(known, ..)| *known == port)?;
    if matches!(protocol, protocol::UDP | protocol::UDPLITE) { *datagram } else { *stream }
}

/// Whether a port means different things for TCP and for UDP.
#[must_use]
pub fn is_by_transport(port: u16) -> bool {
    BY_TRANSPORT.iter().any(|(known, ..)| *known == port)
}

/// The port of a service.
#[must_use]
pub fn port(name: &str) -> Option<u16> {
    let everywhere = SERVICES.iter().find(|(_, known)| *known == name).map(|(port, _)| *port);
    everywhere.or_else(|| {
        let by_transport = BY_TRANSPORT.iter().find(|(_, tcp, udp)| *tcp == Some(name) || *udp == Some(name));
        by_transport.map(|(port, ..)| *port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_names_each_port_and_service_once() {
        assert!(SERVICES.is_sorted_by(|before, after| before.0 < after.0));
        let mut names: Vec<_> = SERVICES.iter().map(|(_, name)| *name).collect();
        names.extend(BY_TRANSPORT.iter().flat_map(|(_, tcp, udp)| [*tcp, *udp]).flatten());
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(BY_TRANSPORT.iter().all(|(port, ..)| !SERVICES.iter().any(|(known, _)| known == port)));
        assert!(SERVICES.iter().all(|(port, _)| *port < FIRST_DYNAMIC));
    }

    #[test]
    fn a_port_that_means_two_things_is_named_by_its_transport() {
        assert_eq!(service(protocol::TCP, 514), Some("shell"));
        assert_eq!(service(protocol::UDP, 514), Some("syslog"));
        assert_eq!(service(protocol::UDP, 443), Some("https"));
        assert_eq!(service(protocol::TCP, 40_000), None);
        assert_eq!((port("domain"), port("syslog"), port("nothing")), (Some(53), Some(514), None));
    }
}
