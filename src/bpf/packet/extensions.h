/* Past the extension headers of IPv6, to the transport header. */
#pragma once

#include "packet/ip.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* A sender may chain headers without end; six is more than any legal chain a TCP client sends (RFC 8200 section 4.1 lists
 * seven, two of them ESP and mobility). */
#define MAX_EXTENSIONS 6

/* Where an IPv6 packet's transport header is. */
struct walk {
	__u32 offset;
	__u32 fragment_id;
	__u8 proto;
	__u8 fragment;
	__u8 stop; /* cannot be followed, but legal (a route that is not finished): the kernel's business */
};

static __noinline int walk_extensions(struct __sk_buff *skb, struct walk *w)
{
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		__u8 h[8];

		if (w->proto != IPPROTO_HOPOPTS && w->proto != IPPROTO_DSTOPTS && w->proto != IPPROTO_ROUTING &&
		    w->proto != IPPROTO_FRAGMENT && w->proto != IPPROTO_AH)
			return 0;
		if (bpf_skb_load_bytes(skb, w->offset, h, sizeof h))
			return -1;
		if (w->proto == IPPROTO_FRAGMENT) {
			const __u16 field = h[2] << 8 | h[3];

			w->fragment_id = *(__u32 *)(h + 4);
			if (field & 0xfff8)
				w->fragment = FRAGMENT_LATER;
			else if (field & 1)
				w->fragment = FRAGMENT_FIRST;
			w->offset += 8;
			w->proto = h[0];
			if (w->fragment == FRAGMENT_LATER)
				return 0; /* payload follows, whatever the number says */
			continue;
		}
		if (w->proto == IPPROTO_ROUTING && h[3] != 0) {
			w->stop = 1;
			return 0;
		}
		w->offset += w->proto == IPPROTO_AH ? (h[1] + 2) * 4 : (h[1] + 1) * 8;
		w->proto = h[0];
	}
	/* The seventh may still be the transport header. */
	if (w->proto == IPPROTO_HOPOPTS || w->proto == IPPROTO_DSTOPTS || w->proto == IPPROTO_ROUTING || w->proto == IPPROTO_FRAGMENT ||
	    w->proto == IPPROTO_AH)
		return -1;
	return 0;
}
