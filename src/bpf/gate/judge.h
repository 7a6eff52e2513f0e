/* What a protected connection may say now (docs/adr/0018): arithmetic on its entry. */
#pragma once

#include "gate/segment.h"

enum judgement {
	JUDGE_PASS,
	JUDGE_CLAMP,
	JUDGE_HOLD,    /* says nothing that the client may hear and does not know */
	JUDGE_OUTPUT,
	JUDGE_SYNACK,
};

/* What is announced instead of the kernel's numbers. */
struct announced {
	__u32 ack;
	__u32 window; /* scaled, as in the header */
};

static __always_inline int after(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

static __always_inline __u32 later(__u32 a, __u32 b)
{
	return after(b, a) ? b : a;
}

/* An acknowledgement and the end of the window announced with it: one word of the entry. */
union marks {
	struct {
		__u32 ack;
		__u32 edge;
	};
	__u64 word;
};

static __always_inline union marks read_marks(const __u64 *from)
{
	union marks m = { .word = *(volatile const __u64 *)from };

	return m;
}

/* Another processor is in between only when geckod's own segment meets one of the kernel's, whose packets of one socket are in order. */
#define ATTEMPTS 4

#define WINDOW_MAX 65535u

/* The highest acknowledgement that is allowed, with a window that ends where the kernel's ends.
 *
 * A window is a multiple of 1 << scale, so ack and edge cannot both be chosen: the acknowledgement gives way, by less than one step.
 * When that would fall below what the client has heard (it ignores the window of an old acknowledgement), the edge gives way instead;
 * and when the edge would fall below what it has heard (a window must not shrink, RFC 9293 section 3.8.6), nothing new can be said: the
 * old edge is repeated with an old acknowledgement. */
static __always_inline struct announced rebase(const struct gecko_gated *g, union marks sent)
{
	const __u32 scale = g->window_scale & 15, step = 1u << scale;
	const __u32 limit = later(*(volatile const __u32 *)&g->watermark, sent.ack);
	const union marks kernel = read_marks(&g->kernel);
	struct announced a = { .ack = kernel.ack };
	__u32 room = kernel.edge - kernel.ack;

	if (after(kernel.ack, limit)) {
		room = kernel.edge - limit;
		a.ack = PLANTED(1) ? limit : kernel.edge - ((room + step - 1) >> scale << scale);
		if (after(sent.ack, a.ack) && !PLANTED(2))
			a.ack = sent.ack;
		room = PLANTED(3) ? kernel.edge - kernel.ack : kernel.edge - a.ack;
		if ((__s32)room < 0)
			room = 0;
		/* More than the header can hold: then the edge is further back, but further than the client has heard. */
		if (room >> scale > WINDOW_MAX && !PLANTED(4)) {
			a.ack = limit;
			room = WINDOW_MAX << scale;
		}
		if (after(sent.edge, a.ack + (room >> scale << scale)) && !PLANTED(5)) {
			room = (sent.edge - sent.ack + step - 1) >> scale << scale;
			a.ack = sent.edge - room;
		}
	}
	a.window = room >> scale;
	return a;
}

static __always_inline __u32 edge_of(const struct gecko_gated *g, struct announced a)
{
	return a.ack + (a.window << (g->window_scale & 15));
}

static __always_inline void note_kernel(struct gecko_gated *g, const struct segment *s)
{
	const union marks stamps = { .ack = s->ts_value, .edge = s->ts_echo };
	union marks was = read_marks(&g->kernel), is = { .ack = s->ack, .edge = s->edge };

	if (!(s->flags & TCP_ACK) || after(was.ack, is.ack))
		return;
	/* As a pair, of one packet: their distance is a whole number of window steps. */
	if (is.ack != was.ack || after(is.edge, was.edge))
		__sync_val_compare_and_swap(&g->kernel, was.word, is.word);
	g->seen = (s->has_timestamps ? GECKO_GATE_SEEN_TIMESTAMPS : 0) | (s->flags & TCP_ECE ? GECKO_GATE_SEEN_ECE : 0) |
		  (s->after_peer_fin ? GECKO_GATE_SEEN_PEER_FIN : 0);
	*(volatile __u64 *)&g->stamps = stamps.word;
}

/* The client has been told. 0: something else was sent meanwhile. */
static __always_inline int note_told(struct gecko_gated *g, union marks was, __u32 ack, __u32 edge)
{
	const union marks is = { .ack = later(was.ack, ack), .edge = later(was.edge, edge) };

	return is.word == was.word || __sync_val_compare_and_swap(&g->sent, was.word, is.word) == was.word;
}

static __always_inline void note_passed(struct gecko_gated *g, const struct segment *s, __u64 now)
{
	if (after(s->end_seq, g->snd_nxt))
		g->snd_nxt = s->end_seq;
	if (s->snd_una_known && after(s->snd_una, g->snd_una))
		g->snd_una = s->snd_una;
	__sync_lock_test_and_set(&g->passed_ns, now); /* an exchange, for its barrier: see report_moved */
}

/* A bare acknowledgement costs the client work and, when it repeats an old number, looks like a loss. */
static __always_inline int is_news(const struct gecko_gated *g, union marks sent, struct announced a)
{
	return after(a.ack, sent.ack) || (!after(sent.ack, a.ack) && after(edge_of(g, a), sent.edge));
}

static __always_inline int is_worth_sending(const struct gecko_gated *g, union marks sent, struct announced a, __u64 now)
{
	const union marks kernel = read_marks(&g->kernel);
	const __u32 window = kernel.edge - kernel.ack, gain = edge_of(g, a) - sent.edge;
	const __s32 room = sent.edge - kernel.ack; /* what the client may still send */

	if (PLANTED(6) || after(a.ack, sent.ack))
		return 1;
	if (is_news(g, sent, a) && gain >= (room < (__s32)(window / 4) ? window / 16 : window / 4))
		return 1;
	return now - g->passed_ns > GECKO_GATE_SILENCE_NS;
}

static __always_inline enum judgement judge(struct gecko_gated *g, const struct segment *s, __u64 now, struct announced *a)
{
	const __u8 flags = g->flags;
	int probe;

	note_kernel(g, s);
	if (flags & GECKO_GATE_F_OUTPUT && s->payload && after(s->end_seq - !!(s->flags & TCP_FIN), *(volatile __u32 *)&g->released) && !PLANTED(7))
		return JUDGE_OUTPUT;
	if (!(flags & GECKO_GATE_F_CLAMP) || !(s->flags & TCP_ACK) || !after(s->ack, *(volatile __u32 *)&g->watermark) || PLANTED(8)) {
		for (int i = 0; i < ATTEMPTS && s->flags & TCP_ACK; i++)
			if (note_told(g, read_marks(&g->sent), s->ack, s->edge))
				break;
		note_passed(g, s, now);
		return JUDGE_PASS;
	}
	if (s->flags & TCP_SYN)
		return JUDGE_SYNACK;
	/* Below what has been sent and empty: a probe of the kernel's (keepalive, zero window), which wants an answer. */
	probe = s->payload || s->flags & (TCP_FIN | TCP_RST) || after(g->snd_nxt, s->seq);
	for (int i = 0; i < ATTEMPTS; i++) {
		const union marks sent = read_marks(&g->sent);

		*a = rebase(g, sent);
		if (!probe && !is_worth_sending(g, sent, *a, now))
			return JUDGE_HOLD;
		if (note_told(g, sent, a->ack, edge_of(g, *a)))
			break;
	}
	note_passed(g, s, now);
	return JUDGE_CLAMP;
}
