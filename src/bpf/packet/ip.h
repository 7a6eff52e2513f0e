/* One IP packet as the programs see it, and its IP header. Offsets count from skb->data: 14 on a NIC, 0 on the hold device,
 * 40 more behind an outer header. Everything is read with bpf_skb_load_bytes: headers may lie in fragments of the skb, and a
 * short packet is an error value instead of a verifier puzzle. Used by the steering programs and the gate. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/steer_shared.h"

/* The next filter, then the stack: other people's filters behind ours keep working. */
#define VERDICT_PASS TC_ACT_UNSPEC
#define VERDICT_DROP TC_ACT_SHOT

enum fragment_kind {
	FRAGMENT_NONE,
	FRAGMENT_FIRST, /* carries the ports */
	FRAGMENT_LATER,
};

/* The first bytes of the IP header, kept for writing it back with one hop less. */
union ip_start {
	__u8 bytes[12];
	__be16 words[6];
};

struct packet {
	struct gecko_flow_key key; /* local: destination, peer: source, until transport.h says otherwise */
	__u32 l3;                  /* offset of the IP header */
	__u32 l4;                  /* offset of what follows it (transport.h: of the transport header) */
	__u32 length;              /* whole IP packet by its own header: frames may carry padding */
	__u32 end_seq;             /* TCP: sequence number + length */
	__u32 fragment_id;
	__u16 headers;             /* IP + transport header bytes, for the size of GSO segments */
	__u8 version;
	__u8 proto;
	__u8 traffic_class;
	__u8 hop_limit;
	__u8 fragment;             /* enum fragment_kind */
	__u8 tcp_flags;
	__u8 outer;                /* 1: there is an IPv6 header of ours in front of l3 */
	__u8 outer_class;
	union ip_start start;
};

#define IS_V6(p) ((p)->version == 6)

static __always_inline void map_v4(__u8 *to, __be32 address)
{
	__u32 *words = (__u32 *)to;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = address;
}

static __always_inline __be32 unmap_v4(const __u8 *from)
{
	return ((const __u32 *)from)[3];
}

/* An IPv6 packet with such an address would meet the entries of an IPv4 group. */
static __always_inline int is_v4_mapped(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return words[0] == 0 && words[1] == 0 && words[2] == bpf_htonl(0xffff);
}

static __always_inline int same_address(const __u8 *a, const __u8 *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

#define IP4_MORE_FRAGMENTS 0x2000
#define IP4_OFFSET_MASK 0x1fff

static __always_inline int read_ip4(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr ip;
	__u16 fragment;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof ip))
		return -1;
	p->length = bpf_ntohs(ip.tot_len);
	/* Zero: a GSO packet above 64 KB (BIG TCP, Linux 6.3). */
	if (!ip.tot_len && skb->gso_size)
		p->length = skb->len - p->l3;
	if (ip.version != 4 || ip.ihl < 5 || p->length < ip.ihl * 4u || p->length > skb->len - p->l3)
		return -1;
	__builtin_memcpy(&p->start, &ip, sizeof p->start);
	map_v4(p->key.local, ip.daddr);
	map_v4(p->key.peer, ip.saddr);
	p->l4 = p->l3 + ip.ihl * 4;
	p->proto = ip.protocol;
	p->traffic_class = ip.tos;
	p->hop_limit = ip.ttl;
	fragment = bpf_ntohs(ip.frag_off);
	if (fragment & IP4_OFFSET_MASK)
		p->fragment = FRAGMENT_LATER;
	else if (fragment & IP4_MORE_FRAGMENTS)
		p->fragment = FRAGMENT_FIRST;
	p->fragment_id = ip.id;
	return 0;
}

static __always_inline int read_ip6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof ip))
		return -1;
	if (ip.version != 6)
		return -1;
	p->length = bpf_ntohs(ip.payload_len) + sizeof ip;
	/* Zero: a jumbogram, which is how the kernel itself marks GSO packets above 64 KB (BIG TCP). */
	if (!ip.payload_len)
		p->length = skb->len - p->l3;
	if (p->length > skb->len - p->l3)
		return -1;
	__builtin_memcpy(&p->start, &ip, sizeof p->start);
	__builtin_memcpy(p->key.local, &ip.daddr, 16);
	__builtin_memcpy(p->key.peer, &ip.saddr, 16);
	if (is_v4_mapped(p->key.local) || is_v4_mapped(p->key.peer))
		return -1;
	p->l4 = p->l3 + sizeof ip;
	p->proto = ip.nexthdr;
	p->traffic_class = ip.priority << 4 | ip.flow_lbl[0] >> 4;
	p->hop_limit = ip.hop_limit;
	return 0;
}

/* Fills addresses, length, hop limit and what follows. -1: not a whole IP packet. */
static __always_inline int read_ip(struct __sk_buff *skb, struct packet *p)
{
	return IS_V6(p) ? read_ip6(skb, p) : read_ip4(skb, p);
}

/* Version by what the link layer announced; 0: not IP, or of a VLAN (another interface's packet, on its way to or from it). */
static __always_inline __u8 ip_version(const struct __sk_buff *skb)
{
	if (skb->vlan_present)
		return 0;
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return 6;
	return skb->protocol == bpf_htons(ETH_P_IP) ? 4 : 0;
}
