"""A scheduler of required rules only: does every pod find a host?

It knows required node affinity by zone, required anti-affinity by host or zone, and spread constraints that forbid. Hosts are
the fewest that the overlay is for: two in each zone of the sets, or one where no zone is named.
"""

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def selected(rule, labels):
    return all(labels.get(name) == value for name, value in rule["labelSelector"]["matchLabels"].items())


def allowed(pod, labels, host, hosts, placed):
    """Whether a pod may go to a host; `placed` are (labels, host)."""
    affinity = pod.get("affinity", {})
    required = affinity.get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if required:
        terms = required["nodeSelectorTerms"]
        if not any(all(host.get(row["key"]) in row["values"] for row in term["matchExpressions"]) for term in terms):
            return False
    for rule in affinity.get("podAntiAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", []):
        key = rule["topologyKey"]
        if any(selected(rule, other) and there[key] == host[key] for other, there in placed):
            return False
    for rule in pod.get("topologySpreadConstraints", []):
        if rule["whenUnsatisfiable"] != "DoNotSchedule":
            continue
        key = rule["topologyKey"]
        counts = {one[key]: 0 for one in hosts}
        for other, there in placed:
            counts[there[key]] += selected(rule, other)
        if counts[host[key]] + selected(rule, labels) - min(counts.values()) > rule["maxSkew"]:
            return False
    return True


def unscheduled(sets, zones):
    """A line for each pod that stays pending."""
    each = 2 if len(zones) > 1 else 1
    hosts = [{HOST: f"{zone}-{n}", ZONE: zone} for zone in zones for n in range(each)]
    placed, pending = [], []
    for one in sets:
        template = one["spec"]["template"]
        labels = template["metadata"]["labels"]
        for ordinal in range(one["spec"]["replicas"]):
            fits = [host for host in hosts if allowed(template["spec"], labels, host, hosts, placed)]
            if fits:
                fewest = min(fits, key=lambda host: sum(there is host for _, there in placed))
                placed.append((labels, fewest))
            else:
                name = one["metadata"]["name"]
                pending.append(f"pod {name}-{ordinal} finds no host of {len(hosts)} in {len(zones)} zones")
    return pending
