/* Lowers the MSS option of a SYN or SYN-ACK (RFC 9293 section 3.7.1), so that what the other side sends still fits after
 * encapsulation: adjust_room does not look at the MTU, and a 1500-byte packet that grew by 40 vanishes. */
#pragma once

#include "steer/transport.h"

#define TCP_OPTIONS_MAX 40
#define TCPOPT_EOL 0
#define TCPOPT_NOP 1
#define TCPOPT_MSS 2
#define TCPOLEN_MSS 4

/* Offset of the MSS value in the options; 0: there is none, or the options are broken (the receiver decides). */
/* Not static: the verifier then looks at the loop once, and not again for every path that leads here. */
__noinline __u32 find_mss(struct __sk_buff *skb, __u32 at, __u32 bytes)
{
	__u32 i = 0;

	for (int n = 0; n < TCP_OPTIONS_MAX; n++) {
		__u8 option[2];

		if (i + TCPOLEN_MSS > bytes || bpf_skb_load_bytes(skb, at + i, option, sizeof option))
			return 0;
		if (option[0] == TCPOPT_EOL)
			return 0;
		if (option[0] == TCPOPT_NOP) {
			i++;
			continue;
		}
		if (option[0] == TCPOPT_MSS)
			return option[1] == TCPOLEN_MSS ? i + 2 : 0;
		if (option[1] < 2)
			return 0;
		i += option[1];
	}
	return 0;
}

static __always_inline void clamp_mss(struct __sk_buff *skb, const struct packet *p, __u16 mss_max)
{
	const __u32 options = p->l4 + sizeof(struct tcphdr);
	const __u32 used = p->l4 - p->l3 + sizeof(struct tcphdr);
	__be16 old_mss, new_mss = bpf_htons(mss_max);
	__u32 at;

	if (!mss_max || !(p->tcp_flags & TCP_SYN) || p->fragment != FRAGMENT_NONE || p->headers <= used)
		return;
	at = find_mss(skb, options, p->headers - used);
	if (!at || bpf_skb_load_bytes(skb, options + at, &old_mss, sizeof old_mss) || bpf_ntohs(old_mss) <= mss_max)
		return;
	/* The checksum adds 16-bit words; an option at an odd offset (after a NOP) lies across two of them. */
	if (at & 1) {
		__u16 from = bpf_htons(bpf_ntohs(old_mss) << 8 | bpf_ntohs(old_mss) >> 8), to = bpf_htons(mss_max << 8 | mss_max >> 8);

		if (bpf_l4_csum_replace(skb, p->l4 + 16, from, to, 2))
			return;
	} else if (bpf_l4_csum_replace(skb, p->l4 + 16, old_mss, new_mss, 2)) {
		return;
	}
	bpf_skb_store_bytes(skb, options + at, &new_mss, sizeof new_mss, 0);
	count(GECKO_C_MSS_CLAMPED);
}
