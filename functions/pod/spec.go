package pod

import (
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/pod/keeper"
)

const (
	// overhead is what a runner's pod may use beyond the function's memory: the
	// keeper's own, with its connection.
	overhead = 16 << 20
	// poolMemory is the memory of the functions that fit into a pool pod: what a
	// manifest has that says nothing.
	poolMemory = 32 << 20
	// imagePort is where a user's container is told to listen.
	imagePort = 8080
)

// poolPod returns a generic runner pod.
func (s *Sandbox) poolPod(owner kube.Owner) *kube.Pod {
	nonce := newNonce()
	p := s.pod("pool-"+suffix(), nonce, owner)
	p.Metadata.Labels[labelName] = "pool"
	p.Metadata.Labels[labelPool] = "true"
	p.Spec.NodeName = s.cfg.Node
	s.hold(p, nonce, poolMemory, "")
	return p
}

// functionPod returns a pod for f alone.
func (s *Sandbox) functionPod(f functions.Function, owner kube.Owner) *kube.Pod {
	spec := f.Manifest.Spec
	nonce := newNonce()
	p := s.pod(podName(f), nonce, owner)
	maps.Copy(p.Metadata.Labels, functionLabels(f))
	maps.Copy(p.Metadata.Annotations, functionAnnotations(f))
	if spec.Placement.Pin != functions.PinCluster {
		p.Spec.NodeName = s.cfg.Node
	}
	if spec.Runtime == functions.RuntimeImage {
		s.serve(p, f)
	} else {
		s.hold(p, nonce, int64(spec.Resources.Memory), spec.Resources.CPU)
	}
	return p
}

// functionLabels are those by which a pod of f is found.
func functionLabels(f functions.Function) map[string]string {
	return map[string]string{labelName: f.Name(), labelFunction: f.Name(), labelRevision: f.Revision.Short()}
}

func functionAnnotations(f functions.Function) map[string]string {
	return map[string]string{annotationRevision: string(f.Revision), annotationIdle: time.Duration(f.Manifest.Spec.Scaling.Idle).String()}
}

// pod returns what all pods have in common: they keep to the restricted Pod Security
// standard, have no token, and run as a user of their own.
func (s *Sandbox) pod(name, nonce string, owner kube.Owner) *kube.Pod {
	user := s.keys.user(nonce)
	return &kube.Pod{
		Metadata: kube.Meta{
			Name:        name,
			Labels:      map[string]string{labelManaged: managed, labelNode: labelValue(s.cfg.Node)},
			Annotations: map[string]string{annotationNonce: nonce},
			Owners:      []kube.Owner{owner},
		},
		Spec: kube.PodSpec{
			RestartPolicy:                "Always",
			AutomountServiceAccountToken: new(false),
			EnableServiceLinks:           new(false),
			SecurityContext: &kube.PodSecurity{
				RunAsNonRoot: new(true), RunAsUser: &user, RunAsGroup: &user, FSGroup: &user,
				SeccompProfile: &kube.SeccompProfile{Type: "RuntimeDefault"},
			},
			// A node that is cut off keeps its pods: it is the edge.
			Tolerations: []kube.Toleration{
				{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute"},
				{Key: "node.kubernetes.io/unreachable", Operator: "Exists", Effect: "NoExecute"},
			},
		},
	}
}

// hold makes p a runner pod: a keeper, and what it starts.
func (s *Sandbox) hold(p *kube.Pod, nonce string, memory int64, cpu string) {
	p.Spec.TerminationGracePeriodSeconds = new(int64(1))
	p.Spec.DNSPolicy = "Default" // it resolves nothing
	c := container("runner", s.cfg.Image, memory+overhead, cpu)
	c.Args = []string{"keep"}
	c.Env = []kube.EnvVar{
		{Name: keeper.SeedVariable, Value: hex.EncodeToString(s.keys.pod(nonce))},
		{Name: keeper.AgentVariable, Value: hex.EncodeToString(keeper.Public(s.keys.agent))},
	}
	c.Ports = []kube.ContainerPort{{Name: "runner", ContainerPort: keeper.Port}}
	p.Spec.Containers = []kube.Container{c}
}

// serve makes p a pod of the user's container.
func (s *Sandbox) serve(p *kube.Pod, f functions.Function) {
	spec := f.Manifest.Spec
	p.Spec.TerminationGracePeriodSeconds = new(int64(10))
	p.Spec.DNSPolicy = "ClusterFirst"
	c := container("function", spec.Source.Image, int64(spec.Resources.Memory), spec.Resources.CPU)
	for _, name := range slices.Sorted(maps.Keys(spec.Env)) {
		c.Env = append(c.Env, kube.EnvVar{Name: name, Value: literal(spec.Env[name])})
	}
	c.Env = append(c.Env, kube.EnvVar{Name: "PORT", Value: strconv.Itoa(imagePort)})
	c.Ports = []kube.ContainerPort{{Name: "http", ContainerPort: imagePort}}
	c.ReadinessProbe = &kube.Probe{TCPSocket: &kube.TCPSocket{Port: imagePort}, PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: 3}
	// Programs expect one folder that they may write to; it counts as memory.
	p.Spec.Volumes = []kube.Volume{{Name: "tmp", EmptyDir: &kube.EmptyDir{Medium: "Memory", SizeLimit: "16Mi"}}}
	c.VolumeMounts = []kube.VolumeMount{{Name: "tmp", MountPath: "/tmp"}}
	p.Spec.Containers = []kube.Container{c}
}

// literal keeps the kubelet from reading $(NAME) as another variable.
func literal(value string) string { return strings.ReplaceAll(value, "$", "$$") }

func container(name, image string, memory int64, cpu string) kube.Container {
	c := kube.Container{
		Name:            name,
		Image:           image,
		ImagePullPolicy: "IfNotPresent",
		// A function mostly sleeps: what is reserved for it is little.
		Resources: kube.Resources{
			Requests: map[string]string{"memory": "16Mi", "cpu": "5m"},
			Limits:   map[string]string{"memory": functions.Bytes(memory).String()},
		},
		TerminationMessagePolicy: "FallbackToLogsOnError",
		SecurityContext: &kube.ContainerSecurity{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &kube.Capabilities{Drop: []string{"ALL"}},
		},
	}
	if memory < 16<<20 {
		c.Resources.Requests["memory"] = functions.Bytes(memory).String()
	}
	if cpu != "" {
		c.Resources.Limits["cpu"] = cpu
	}
	return c
}
