/* From the IP header to ports: IPv6 extension headers, fragments, TCP, and the packet embedded in an ICMP error. */
#pragma once

#include "packet/extensions.h"
#include "steer/packet.h"

enum transport_kind {
	TRANSPORT_MALFORMED = -1,
	TRANSPORT_OTHER,      /* the kernel's business: UDP, echo, neighbour discovery, unknown */
	TRANSPORT_TCP,
	TRANSPORT_ICMP_ERROR, /* the key is that of the embedded flow */
};

static __always_inline int is_pure_syn(const struct packet *p)
{
	return (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

static __always_inline int read_tcp(struct __sk_buff *skb, struct packet *p)
{
	struct tcphdr tcp;
	__u32 header, used = p->l4 - p->l3;

	/* Within the packet, not merely within the frame: padding is not a header. */
	if (p->length < used + sizeof tcp || bpf_skb_load_bytes(skb, p->l4, &tcp, sizeof tcp))
		return TRANSPORT_MALFORMED;
	header = tcp.doff * 4;
	/* A first fragment may be shorter than the options; the receiver reassembles. */
	if (header < sizeof tcp || (p->length < used + header && p->fragment == FRAGMENT_NONE))
		return TRANSPORT_MALFORMED;
	p->key.local_port = tcp.dest;
	p->key.peer_port = tcp.source;
	p->tcp_flags = ((__u8 *)&tcp)[13];
	p->headers = used + header;
	p->end_seq = bpf_ntohl(tcp.seq) + tcp.syn + tcp.fin;
	if (p->length > used + header)
		p->end_seq += p->length - used - header;
	return TRANSPORT_TCP;
}

/* The embedded packet was sent by the group (source) to the client (destination), so its flow is ours reversed. */
static __always_inline int read_embedded(struct __sk_buff *skb, struct packet *p, __u32 at)
{
	__be16 ports[2];
	__u32 ports_at;

	if (IS_V6(p)) {
		struct ipv6hdr ip;
		struct walk w = {};

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof ip) || ip.version != 6)
			return TRANSPORT_MALFORMED;
		if (!same_address((const __u8 *)&ip.saddr, p->key.local))
			return TRANSPORT_OTHER;
		w.offset = at + sizeof ip;
		w.proto = ip.nexthdr;
		if (walk_extensions(skb, &w))
			return TRANSPORT_MALFORMED;
		if (w.stop || w.fragment == FRAGMENT_LATER || w.proto != IPPROTO_TCP)
			return TRANSPORT_OTHER;
		__builtin_memcpy(p->key.peer, &ip.daddr, 16);
		if (is_v4_mapped(p->key.peer))
			return TRANSPORT_MALFORMED;
		ports_at = w.offset;
	} else {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof ip) || ip.version != 4 || ip.ihl < 5)
			return TRANSPORT_MALFORMED;
		if (ip.saddr != unmap_v4(p->key.local) || ip.protocol != IPPROTO_TCP || (bpf_ntohs(ip.frag_off) & IP4_OFFSET_MASK))
			return TRANSPORT_OTHER;
		map_v4(p->key.peer, ip.daddr);
		ports_at = at + ip.ihl * 4;
	}
	if (bpf_skb_load_bytes(skb, ports_at, ports, sizeof ports))
		return TRANSPORT_MALFORMED;
	p->key.local_port = ports[0];
	p->key.peer_port = ports[1];
	return TRANSPORT_ICMP_ERROR;
}

#define ICMP_HEADER 8

static __always_inline int read_icmp(struct __sk_buff *skb, struct packet *p)
{
	__u8 type;

	if (p->length < p->l4 - p->l3 + ICMP_HEADER || bpf_skb_load_bytes(skb, p->l4, &type, 1))
		return TRANSPORT_MALFORMED;
	if (IS_V6(p)) {
		if (type >= 128) /* RFC 4443: errors are below */
			return TRANSPORT_OTHER;
	} else if (type != 3 && type != 4 && type != 11 && type != 12) { /* unreachable, quench, time exceeded, parameter */
		return TRANSPORT_OTHER;
	}
	p->headers = p->l4 - p->l3 + ICMP_HEADER;
	return read_embedded(skb, p, p->l4 + ICMP_HEADER);
}

/* Later fragments: the ports their first fragment had. */
static __always_inline void fragment_key(const struct packet *p, struct gecko_fragment_key *key)
{
	__builtin_memcpy(key->local, p->key.local, 16);
	__builtin_memcpy(key->peer, p->key.peer, 16);
	key->id = p->fragment_id;
	/* IPv6 counts per address pair (RFC 8200 section 4.5), and the fragments of one packet may name different next headers. */
	key->proto = IS_V6(p) ? 0 : p->proto;
}

static __always_inline int recall_fragment(struct packet *p)
{
	struct gecko_fragment_key key;
	struct gecko_fragment *first;

	fragment_key(p, &key);
	first = bpf_map_lookup_elem(&gecko_frags, &key);
	if (!first)
		return TRANSPORT_OTHER;
	count(GECKO_C_FRAGMENTS);
	p->key.local_port = first->local_port;
	p->key.peer_port = first->peer_port;
	p->tcp_flags = TCP_ACK; /* neither starts nor ends anything */
	return TRANSPORT_TCP;
}

static __always_inline void remember_fragment(const struct packet *p)
{
	struct gecko_fragment_key key;
	struct gecko_fragment first = { p->key.local_port, p->key.peer_port };

	fragment_key(p, &key);
	count(GECKO_C_FRAGMENTS);
	bpf_map_update_elem(&gecko_frags, &key, &first, BPF_ANY);
}

/* Finds the transport header: l4, proto and fragment. A TRANSPORT_TCP answer means "go on reading", whatever the protocol. */
static __always_inline int locate_transport(struct __sk_buff *skb, struct packet *p)
{
	if (IS_V6(p) && p->proto != IPPROTO_TCP) {
		struct walk w = { .offset = p->l4, .proto = p->proto };

		if (walk_extensions(skb, &w))
			return TRANSPORT_MALFORMED;
		if (w.stop)
			return TRANSPORT_OTHER;
		p->l4 = w.offset;
		p->proto = w.proto;
		p->fragment = w.fragment;
		p->fragment_id = w.fragment_id;
	}
	return p->length < p->l4 - p->l3 ? TRANSPORT_MALFORMED : TRANSPORT_TCP;
}

/* Completes the key of a packet for a group. Returns enum transport_kind. */
static __always_inline int read_transport(struct __sk_buff *skb, struct packet *p)
{
	int kind = locate_transport(skb, p);

	if (kind != TRANSPORT_TCP)
		return kind;
	if (p->fragment == FRAGMENT_LATER)
		return recall_fragment(p);
	if (p->proto == IPPROTO_TCP) {
		kind = read_tcp(skb, p);
		if (kind == TRANSPORT_TCP && p->fragment == FRAGMENT_FIRST)
			remember_fragment(p);
		return kind;
	}
	if (p->proto == (IS_V6(p) ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return read_icmp(skb, p);
	return TRANSPORT_OTHER;
}
