"""What scripts/manifests asks of a built overlay: the schemas of Kubernetes, and that its parts fit together.

Reads one file of documents, prints a line for each thing that is wrong and ends with 1 where there is one. With --ours the
files of the ConfigMaps must be those of deploy/ as well. It asks no cluster and changes nothing.
"""

import os
import re
import sys

import kubernetes_validate
import yaml

from schedule import unscheduled

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
# The oldest that the manifests are for, and the newest that the validator knows.
VERSIONS = ["1.29", "1.37"]
# Kinds of operators, of which there is no schema here.
FOREIGN = {("monitoring.coreos.com/v1", "ServiceMonitor")}
# What a shard needs beside maxmemory: a tenth for pages copied while a fork lives, a twentieth for fragmentation, and the
# server itself with its compiled policies.
SHARE, SERVER = 0.15, 96 << 20
# A disk holds the base and the increments of the AOF, the next base, an RDB and the next RDB.
DISK = 5


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def secrets():
    """Secrets that people make, and their keys: the users of the ACL file, and what cert-manager writes."""
    users = set(re.findall(r"\$([A-Z_]+)", re.sub(r"(?m)^#.*$", "", read("deploy/acl/users.acl.in")))) - {"KEYS"}
    return {"redis-bull-passwords": users, "redis-bull-tls": {"ca.crt", "tls.crt", "tls.key"}}


def size(text):
    """Bytes of a quantity of Kubernetes (28Gi) or of a setting of the server (20gb)."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
    units = {"": 0, "ki": 10, "mi": 20, "gi": 30, "kb": 10, "mb": 20, "gb": 30}
    return int(float(number) * (1 << units[unit.lower()]))


def matches(selector, labels):
    return bool(selector) and all(labels.get(name) == value for name, value in selector.items())


class Overlay:
    def __init__(self, documents):
        self.documents = documents
        self.wrong = []
        self.maps = {self.name(d): {**d.get("data", {}), **d.get("binaryData", {})} for d in self.of("ConfigMap")}
        self.sets = self.of("StatefulSet")
        self.workloads = self.sets + self.of("Job")

    def of(self, kind):
        return [document for document in self.documents if document["kind"] == kind]

    @staticmethod
    def name(document):
        return document["metadata"]["name"]

    def say(self, document, text):
        self.wrong.append(f"{document['kind']} {self.name(document)}: {text}")

    @staticmethod
    def pod(workload):
        return workload["spec"]["template"]["spec"]

    @staticmethod
    def labels(workload):
        return workload["spec"]["template"]["metadata"]["labels"]

    def containers(self, workload):
        pod = self.pod(workload)
        return pod.get("initContainers", []) + pod["containers"]

    def environment(self, container):
        """What the container's settings are: of ConfigMaps, then its own."""
        found = {}
        for source in container.get("envFrom", []):
            found.update(self.maps.get(source.get("configMapRef", {}).get("name"), {}))
        found.update({one["name"]: one.get("value", "") for one in container.get("env", [])})
        return found

    def settings(self, workload, *names):
        """The server's settings, or None where one that is needed is missing."""
        settings = self.environment(self.server(workload))
        missing = [name for name in names if name not in settings]
        if missing:
            self.say(workload, f"its server has no {' '.join(missing)}")
        return None if missing else settings

    def server(self, workload):
        return next(one for one in self.pod(workload)["containers"] if one["name"] == "redis")

    # --- what is asked ---

    def schemas(self):
        for document in self.documents:
            if (document["apiVersion"], document["kind"]) in FOREIGN:
                continue
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                    where = ".".join(str(part) for part in getattr(error, "path", []))
                    self.say(document, f"Kubernetes {version} refuses it: {where}: {getattr(error, 'message', error)}")

    def references(self):
        known = secrets()
        if self.of("Secret"):
            self.wrong.append("a Secret is among the manifests: people make those")
        for workload in self.workloads:
            asked = []
            for container in self.containers(workload):
                for source in container.get("envFrom", []):
                    asked += [(kind, source[kind]["name"], []) for kind in source if kind.endswith("Ref")]
                for one in container.get("env", []):
                    for kind, of in one.get("valueFrom", {}).items():
                        if kind in ("configMapKeyRef", "secretKeyRef"):
                            asked.append((kind, of["name"], [of["key"]]))
            volumes = self.pod(workload).get("volumes", [])
            for volume in volumes:
                if "configMap" in volume:
                    of = volume["configMap"]
                    asked.append(("configMap", of["name"], [item["key"] for item in of.get("items", [])]))
                if "secret" in volume:
                    of = volume["secret"]
                    asked.append(("secret", of["secretName"], [item["key"] for item in of.get("items", [])]))
            for kind, name, keys in asked:
                have = known.get(name) if kind.startswith("secret") else self.maps.get(name)
                if have is None:
                    self.say(workload, f"{kind} {name} is nowhere")
                for key in keys:
                    if have is not None and key not in have:
                        self.say(workload, f"{kind} {name} has no key {key}")
            claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
            there = {volume["name"] for volume in volumes} | set(claims)
            for container in self.containers(workload):
                for mount in container.get("volumeMounts", []):
                    if mount["name"] not in there:
                        self.say(workload, f"{container['name']} mounts {mount['name']}, which is no volume")
            account = self.pod(workload).get("serviceAccountName")
            if account not in [self.name(one) for one in self.of("ServiceAccount")]:
                self.say(workload, f"service account {account} is nowhere")

    def paths(self):
        """Programs are files of the repository; settings that are paths lie on a mount, or in the image."""
        for workload in self.workloads:
            for container in self.containers(workload):
                program = container["command"][0].removeprefix("/opt/redis-bull/")
                if not os.access(os.path.join(ROOT, program), os.X_OK):
                    self.say(workload, f"{container['name']} runs {program}, which is no program of the repository")
                mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
                for name, value in self.environment(container).items():
                    if not value.startswith("/etc/") and not value.startswith("/data"):
                        continue
                    at = next((path for path in mounts if value == path or value.startswith(path + "/")), None)
                    # The others read the same settings, but for files of the server's.
                    if at is None and (container["name"] in ("redis", "init") or name == "BULL_TLS"):
                        self.say(workload, f"{container['name']}: {name}={value} is on no mount")
                    self.file(workload, container, name, value, at, mounts.get(at))

    def file(self, workload, container, name, value, at, volume):
        source = next((one for one in self.pod(workload).get("volumes", []) if one["name"] == volume), {})
        if "configMap" not in source or value == at:
            return
        if value[len(at) + 1 :] not in self.maps.get(source["configMap"]["name"], {}):
            self.say(workload, f"{container['name']}: {name}={value} is no file of {source['configMap']['name']}")

    def selectors(self):
        for workload in self.workloads:
            if workload["kind"] == "StatefulSet":
                others = [other for other in self.workloads if matches(workload["spec"]["selector"]["matchLabels"], self.labels(other))]
                if others != [workload]:
                    self.say(workload, f"its selector takes pods of {[self.name(other) for other in others]}")
        for kind in ("Service", "NetworkPolicy", "PodDisruptionBudget"):
            for document in self.of(kind):
                taken = self.taken(document)
                if not taken:
                    self.say(document, "it selects no pod")
                for port in self.ports(document):
                    for workload in taken:
                        names = [p["name"] for c in self.containers(workload) for p in c.get("ports", [])]
                        if isinstance(port, str) and port not in names:
                            self.say(document, f"{self.name(workload)} has no port {port}")
        for document in self.of("ServiceMonitor"):
            services = [s for s in self.of("Service") if matches(document["spec"]["selector"]["matchLabels"], s["metadata"].get("labels", {}))]
            if len(services) != 1:
                self.say(document, f"it selects {len(services)} services")
            for end in document["spec"]["endpoints"]:
                for service in services:
                    if end["port"] not in [port["name"] for port in service["spec"]["ports"]]:
                        self.say(document, f"{self.name(service)} has no port {end['port']}")
        for one in self.sets:
            service = next((s for s in self.of("Service") if self.name(s) == one["spec"]["serviceName"]), None)
            if service is None or service["spec"].get("clusterIP") != "None" or not service["spec"].get("publishNotReadyAddresses"):
                self.say(one, f"{one['spec']['serviceName']} must be a headless service that names pods before they are ready")

    def taken(self, document):
        spec = document["spec"]
        selector = spec.get("podSelector", spec.get("selector", {}))
        selector = selector.get("matchLabels", selector)
        return [workload for workload in self.workloads if matches(selector, self.labels(workload))]

    @staticmethod
    def ports(document):
        if document["kind"] == "Service":
            return [port.get("targetPort", port["port"]) for port in document["spec"]["ports"]]
        return [port["port"] for rule in document["spec"].get("ingress", []) for port in rule.get("ports", [])]

    def disruptions(self):
        for document in self.of("PodDisruptionBudget"):
            replicas = sum(workload["spec"]["replicas"] for workload in self.taken(document) if workload["kind"] == "StatefulSet")
            away = document["spec"].get("maxUnavailable", replicas - document["spec"].get("minAvailable", 0))
            if not 1 <= away < replicas / 2:
                self.say(document, f"{away} of {replicas} nodes may be away at a time")
        if not self.of("PodDisruptionBudget"):
            self.wrong.append("there is no PodDisruptionBudget")

    def room(self):
        for one in self.sets:
            server = self.server(one)
            settings = self.settings(one, "BULL_MAXMEMORY", "BULL_BACKLOG", "BULL_REPLICA_BUFFER")
            if settings is None:
                continue
            most = size(settings["BULL_MAXMEMORY"])
            needs = int(most * (1 + SHARE)) + size(settings["BULL_BACKLOG"]) + size(settings["BULL_REPLICA_BUFFER"].split()[0]) + SERVER
            resources = server["resources"]
            limit = size(resources["limits"]["memory"])
            if limit < needs:
                self.say(one, f"its memory limit is {limit >> 20} MiB; maxmemory, a fork, backlog and a replica's buffer need {needs >> 20}")
            if resources["requests"]["memory"] != resources["limits"]["memory"]:
                self.say(one, "its memory request is not its limit: it may be evicted")
            disk = size(one["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"])
            if disk < DISK * most:
                self.say(one, f"its volume has {disk >> 20} MiB for maxmemory {most >> 20}: {DISK} times that are needed")

    def bounds(self):
        for workload in self.workloads:
            pod = self.pod(workload)
            context = pod.get("securityContext", {})
            if not context.get("runAsNonRoot") or not context.get("runAsUser") or context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
                self.say(workload, "it may run as root, or without seccomp")
            if pod.get("automountServiceAccountToken") is not False:
                self.say(workload, "it has a token of the API")
            for container in self.containers(workload):
                own = container.get("securityContext", {})
                if own.get("allowPrivilegeEscalation") is not False or not own.get("readOnlyRootFilesystem") or own.get("capabilities") != {"drop": ["ALL"]}:
                    self.say(workload, f"{container['name']} has rights that it does not need")
                if "memory" not in container.get("resources", {}).get("limits", {}):
                    self.say(workload, f"{container['name']} has no memory limit")
                if not re.search(r":[^/]+$", container["image"]) or container["image"].endswith(":latest"):
                    self.say(workload, f"{container['name']}: {container['image']} names no version")

    def patience(self):
        for one in self.sets:
            server, pod = self.server(one), self.pod(one)
            settings = self.settings(one, "BULL_HAND_OVER")
            if settings is None:
                continue
            grace, hand_over = pod["terminationGracePeriodSeconds"], int(settings["BULL_HAND_OVER"])
            if "preStop" not in server.get("lifecycle", {}) or grace < hand_over + 60:
                self.say(one, f"its end is granted {grace} s; handing over may take {hand_over}, and the server's end 60")
            probes = {name: server.get(f"{name}Probe") for name in ("startup", "liveness", "readiness")}
            for name, probe in probes.items():
                if probe is None:
                    self.say(one, f"it has no {name} probe")
                elif probe["timeoutSeconds"] <= int(settings.get("BULL_TIMEOUT", 5)):
                    self.say(one, f"its {name} probe ends before the command that it asks")
            live = probes["liveness"]
            if live and live["periodSeconds"] * live["failureThreshold"] < 120:
                self.say(one, "liveness kills a server that is silent for less than two minutes")
            if one["spec"].get("podManagementPolicy") != "Parallel":
                self.say(one, "its nodes wait for each other to be ready, which they are in a cluster only")

    def nodes(self):
        """BULL_NODES of the Job: each pod once, with the zone that it is bound to."""
        pods = {}
        for one in self.sets:
            zone = zone_of(self.pod(one))
            for ordinal in range(one["spec"]["replicas"]):
                pods[f"{self.name(one)}-{ordinal}.{one['spec']['serviceName']}:6379"] = zone
        for job in self.of("Job"):
            named = self.environment(self.containers(job)[0])["BULL_NODES"].split()
            told = [(word.split("/")[0], word.split("/")[1] if "/" in word else None) for word in named]
            if sorted(told, key=str) != sorted(pods.items(), key=str):
                self.say(job, f"BULL_NODES are {told}, the pods {sorted(pods.items())}")

    def scheduling(self):
        zones = sorted({zone_of(self.pod(one)) or "one" for one in self.sets})
        for text in unscheduled(self.sets, zones):
            self.wrong.append(text)

    def files(self):
        """The ConfigMap's files are those of deploy/, but for where the policies lie."""
        files = self.maps.get("redis-bull-files", {})
        if files.get("placement") != read("deploy/placement"):
            self.wrong.append("base/files/placement is not deploy/placement")
        if files.get("profiles.json") != read("deploy/profiles/tasks.json"):
            self.wrong.append("base/files/profiles.json is not deploy/profiles/tasks.json")
        lines = [[line for line in text.splitlines() if not line.startswith("#")] for text in (files.get("policies", ""), read("deploy/policies"))]
        if [line.replace("/opt/redis-bull/", "../") for line in lines[0]] != lines[1]:
            self.wrong.append("base/files/policies has other policies than deploy/policies")

    def check(self, ours):
        for question in (
            self.schemas, self.references, self.paths, self.selectors, self.disruptions, self.room, self.bounds,
            self.patience, self.nodes, self.scheduling,
        ):  # fmt: skip
            question()
        if ours:
            self.files()
        return self.wrong


def zone_of(pod):
    """The zone that a pod is bound to, or None."""
    required = pod.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", {})
    for term in required.get("nodeSelectorTerms", []):
        for row in term["matchExpressions"]:
            if row["key"] == "topology.kubernetes.io/zone" and len(row["values"]) == 1:
                return row["values"][0]
    return None


def main():
    path = sys.argv[1]
    with open(path, encoding="utf-8") as file:
        overlay = Overlay([document for document in yaml.safe_load_all(file) if document])
    wrong = overlay.check(ours="--ours" in sys.argv)
    name = os.path.basename(path).removesuffix(".yaml")
    for text in wrong:
        print(f"WRONG {name}: {text}")
    if wrong:
        sys.exit(1)
    print(f"{name}: {len(overlay.documents)} documents, valid for Kubernetes {' and '.join(VERSIONS)}, and they fit together")


main()
