#!/usr/bin/python3
"""A strict reader of the Prometheus text format, version 0.0.4: what it does not know is an error. As a program: tests of itself."""
import math, re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(r"(%s)(?:\{(.*)\})? (\S+)" % NAME)
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')
TYPES = ("counter", "gauge", "histogram")


class Wrong(Exception):
    pass


def labels_of(text):
    labels, at = {}, 0
    while at < len(text):
        match = LABEL.match(text, at)
        if not match or match[1] in labels or (match[3] == "," and match.end() == len(text)):
            raise Wrong("labels: %r" % text)
        labels[match[1]] = match[2].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
        at = match.end()
    return labels


def check_histogram(name, samples):
    rows = {}
    for suffix, labels, value in samples:
        key = tuple(sorted((k, v) for k, v in labels.items() if k != "le"))
        rows.setdefault(key, {"_bucket": [], "_sum": None, "_count": None})
        if suffix == "_bucket":
            rows[key][suffix].append((float(labels["le"].replace("+Inf", "inf")), value))
        elif rows[key].get(suffix, 0) is None:
            rows[key][suffix] = value
        else:
            raise Wrong("%s%s does not belong into a histogram, or is there twice" % (name, suffix))
    for row in rows.values():
        bounds, counts = [b for b, _ in row["_bucket"]], [c for _, c in row["_bucket"]]
        if bounds != sorted(set(bounds)) or counts != sorted(counts) or not bounds or bounds[-1] != math.inf:
            raise Wrong("%s: its buckets are not in order, or without +Inf" % name)
        if row["_count"] != counts[-1] or row["_sum"] is None:
            raise Wrong("%s: _count is not its last bucket, or there is no _sum" % name)


def parse(text):
    """{family: {"type", "help", "samples": [(suffix, labels, value)]}}"""
    if not text.endswith("\n"):
        raise Wrong("the last line has no end")
    families, name, series = {}, None, set()
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, text_of = line[7:].split(" ", 1)
            if not re.fullmatch(NAME, name) or name in families or not text_of or re.search(r"\\(?![\\n])", text_of):
                raise Wrong(line)
            families[name] = {"help": text_of, "type": None, "samples": []}
        elif line.startswith("# TYPE "):
            of, kind = line[7:].split(" ", 1)
            if of != name or families[name]["type"] is not None or kind not in TYPES:
                raise Wrong(line)
            families[name]["type"] = kind
        else:
            match = SAMPLE.fullmatch(line)
            if not match or name is None or not match[1].startswith(name) or families[name]["type"] is None:
                raise Wrong(line)
            suffix, kind, labels = match[1][len(name):], families[name]["type"], labels_of(match[2] or "")
            value = float(match[3])
            if (suffix != "") != (kind == "histogram") or (suffix == "_bucket") != ("le" in labels) or (kind != "gauge" and not value >= 0):
                raise Wrong(line)
            if (match[1], tuple(sorted(labels.items()))) in series:
                raise Wrong("twice: " + line)
            series.add((match[1], tuple(sorted(labels.items()))))
            families[name]["samples"].append((suffix, labels, value))
    for name, family in families.items():
        if family["type"] is None or (family["type"] == "counter") != name.endswith("_total"):
            raise Wrong("%s is a %s" % (name, family["type"]))
        if family["type"] == "histogram":
            check_histogram(name, family["samples"])
    return families


def self_test():
    head = "# HELP a_total x\n# TYPE a_total counter\n"
    hist = "# HELP h x\n# TYPE h histogram\n"
    assert parse(head + 'a_total{x="q\\"\\\\\\n,}"} 1\n')["a_total"]["samples"] == [("", {"x": 'q"\\\n,}'}, 1.0)]
    parse(hist + 'h_bucket{le="1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 3\nh_count 2\n')
    for bad in (head + "a_total 1", "a_total 1\n", head + "b_total 1\n", head + "a_total\n", head + "a_total -1\n", head + "a_total one\n", head + "a_total 1\na_total 2\n",
                head + 'a_total{x="1" 1\n', head + 'a_total{x="1",} 1\n', head + 'a_total{x=1} 1\n', head + 'a_total{x="\\t"} 1\n', head + 'a_total{x="1",x="2"} 1\n',
                head + "\n", head + head, "# HELP a x\n# TYPE a counter\n", "# HELP a_total x\n", "# HELP a_total x\n# TYPE a_total summary\n",
                hist + 'h_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 3\nh_count 1\n', hist + 'h_bucket{le="1"} 1\nh_sum 3\nh_count 1\n',
                hist + 'h_bucket{le="+Inf"} 2\nh_sum 3\nh_count 1\n', hist + 'h_bucket{le="+Inf"} 2\nh_count 2\n', hist + "h 2\n"):
        try:
            parse(bad)
        except (Wrong, ValueError):
            continue
        raise AssertionError("taken for right: %r" % bad)


if __name__ == "__main__":
    self_test()
