/* Does this machine's kernel know the connection, although no flow entry says so? */
#pragma once

#include "steer/transport.h"

/* A listener says nothing: it exists on every node. Except for the ACK that answers a SYN cookie, where the listener is all
 * there is; the kernel checks the cookie for us (and only while it is handing cookies out). */
static __always_inline int answers_cookie(struct __sk_buff *skb, const struct packet *p, struct bpf_sock *listener)
{
	struct tcphdr tcp;

	if ((p->tcp_flags & (TCP_ACK | TCP_RST | TCP_SYN)) != TCP_ACK || bpf_skb_load_bytes(skb, p->l4, &tcp, sizeof tcp))
		return 0;
	if (IS_V6(p)) {
		struct ipv6hdr ip;

		return !bpf_skb_load_bytes(skb, p->l3, &ip, sizeof ip) && !bpf_tcp_check_syncookie(listener, &ip, sizeof ip, &tcp, sizeof tcp);
	} else {
		struct iphdr ip;

		return !bpf_skb_load_bytes(skb, p->l3, &ip, sizeof ip) && !bpf_tcp_check_syncookie(listener, &ip, sizeof ip, &tcp, sizeof tcp);
	}
}

/* To be released. */
static __always_inline struct bpf_sock *find_socket(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_sock_tuple tuple = {};

	if (IS_V6(p)) {
		__builtin_memcpy(tuple.ipv6.saddr, p->key.peer, 16);
		__builtin_memcpy(tuple.ipv6.daddr, p->key.local, 16);
		tuple.ipv6.sport = p->key.peer_port;
		tuple.ipv6.dport = p->key.local_port;
		return bpf_skc_lookup_tcp(skb, &tuple, sizeof tuple.ipv6, BPF_F_CURRENT_NETNS, 0);
	}
	tuple.ipv4.saddr = unmap_v4(p->key.peer);
	tuple.ipv4.daddr = unmap_v4(p->key.local);
	tuple.ipv4.sport = p->key.peer_port;
	tuple.ipv4.dport = p->key.local_port;
	return bpf_skc_lookup_tcp(skb, &tuple, sizeof tuple.ipv4, BPF_F_CURRENT_NETNS, 0);
}

static __noinline int kernel_knows(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_sock *sk = find_socket(skb, p);
	int known;

	if (!sk)
		return 0;
	known = sk->state != BPF_TCP_LISTEN || answers_cookie(skb, p, sk);
	bpf_sk_release(sk);
	return known;
}
