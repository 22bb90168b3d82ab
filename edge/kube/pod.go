package kube

// Pods is the kind of [Pod].
var Pods = Kind[Pod]{Version: "v1", Name: "Pod", Plural: "pods"}

// A Pod is one or more containers on one node.
type Pod struct {
	TypeMeta
	Metadata Meta      `json:"metadata"`
	Spec     PodSpec   `json:"spec"`
	Status   PodStatus `json:"status,omitzero"`
}

// A PodSpec is what is asked for.
type PodSpec struct {
	NodeName                      string       `json:"nodeName,omitempty"` // "" leaves it to the scheduler
	RestartPolicy                 string       `json:"restartPolicy,omitempty"`
	TerminationGracePeriodSeconds *int64       `json:"terminationGracePeriodSeconds,omitempty"`
	DNSPolicy                     string       `json:"dnsPolicy,omitempty"`
	AutomountServiceAccountToken  *bool        `json:"automountServiceAccountToken,omitempty"`
	EnableServiceLinks            *bool        `json:"enableServiceLinks,omitempty"`
	SecurityContext               *PodSecurity `json:"securityContext,omitempty"`
	Containers                    []Container  `json:"containers"`
	Volumes                       []Volume     `json:"volumes,omitempty"`
	Tolerations                   []Toleration `json:"tolerations,omitempty"`
}

// PodSecurity is what holds for all containers of a pod.
type PodSecurity struct {
	RunAsNonRoot   *bool           `json:"runAsNonRoot,omitempty"`
	RunAsUser      *int64          `json:"runAsUser,omitempty"`
	RunAsGroup     *int64          `json:"runAsGroup,omitempty"`
	FSGroup        *int64          `json:"fsGroup,omitempty"`
	SeccompProfile *SeccompProfile `json:"seccompProfile,omitempty"`
}

// A SeccompProfile names a filter of system calls.
type SeccompProfile struct {
	Type string `json:"type"` // RuntimeDefault
}

// A Container is one program of a pod.
type Container struct {
	Name                     string             `json:"name"`
	Image                    string             `json:"image"`
	ImagePullPolicy          string             `json:"imagePullPolicy,omitempty"`
	Args                     []string           `json:"args,omitempty"`
	Env                      []EnvVar           `json:"env,omitempty"`
	Ports                    []ContainerPort    `json:"ports,omitempty"`
	Resources                Resources          `json:"resources,omitzero"`
	VolumeMounts             []VolumeMount      `json:"volumeMounts,omitempty"`
	TerminationMessagePolicy string             `json:"terminationMessagePolicy,omitempty"` // FallbackToLogsOnError
	SecurityContext          *ContainerSecurity `json:"securityContext,omitempty"`
	ReadinessProbe           *Probe             `json:"readinessProbe,omitempty"`
}

// ContainerSecurity is what one container may do.
type ContainerSecurity struct {
	AllowPrivilegeEscalation *bool         `json:"allowPrivilegeEscalation,omitempty"`
	ReadOnlyRootFilesystem   *bool         `json:"readOnlyRootFilesystem,omitempty"`
	Capabilities             *Capabilities `json:"capabilities,omitempty"`
}

// Capabilities are those of Linux that are taken away.
type Capabilities struct {
	Drop []string `json:"drop,omitempty"`
}

// An EnvVar is a variable of a container's environment.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// A ContainerPort is one that a container listens on.
type ContainerPort struct {
	Name          string `json:"name,omitempty"`
	ContainerPort int    `json:"containerPort"`
}

// Resources are amounts by name (cpu, memory), as Kubernetes writes quantities.
type Resources struct {
	Requests map[string]string `json:"requests,omitempty"`
	Limits   map[string]string `json:"limits,omitempty"`
}

// A Volume is a folder that lives as long as its pod.
type Volume struct {
	Name     string    `json:"name"`
	EmptyDir *EmptyDir `json:"emptyDir,omitempty"`
}

// An EmptyDir is empty at first.
type EmptyDir struct {
	Medium    string `json:"medium,omitempty"` // Memory or ""
	SizeLimit string `json:"sizeLimit,omitempty"`
}

// A VolumeMount says where a container sees a volume.
type VolumeMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
}

// A Probe is how the kubelet finds out about a container.
type Probe struct {
	TCPSocket        *TCPSocket `json:"tcpSocket,omitempty"`
	PeriodSeconds    int        `json:"periodSeconds,omitempty"`
	TimeoutSeconds   int        `json:"timeoutSeconds,omitempty"`
	FailureThreshold int        `json:"failureThreshold,omitempty"`
}

// A TCPSocket probe succeeds when the port takes a connection.
type TCPSocket struct {
	Port int `json:"port"`
}

// A Toleration lets a pod stay on a node that keeps others away.
type Toleration struct {
	Key      string `json:"key,omitempty"`
	Operator string `json:"operator,omitempty"`
	Effect   string `json:"effect,omitempty"`
}

// The phases of a pod.
const (
	PodPending   = "Pending"
	PodRunning   = "Running"
	PodSucceeded = "Succeeded"
	PodFailed    = "Failed"
)

// A PodStatus is what the kubelet and the scheduler say.
type PodStatus struct {
	Phase      string            `json:"phase,omitempty"`
	Reason     string            `json:"reason,omitempty"` // Evicted, OutOfmemory, …
	Message    string            `json:"message,omitempty"`
	PodIP      string            `json:"podIP,omitempty"`
	Conditions []Condition       `json:"conditions,omitempty"`
	Containers []ContainerStatus `json:"containerStatuses,omitempty"`
}

// A Condition is one thing that is so, or not.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"` // True, False or Unknown
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// A ContainerStatus is how a container is.
type ContainerStatus struct {
	Name         string         `json:"name"`
	Ready        bool           `json:"ready"`
	RestartCount int            `json:"restartCount"`
	State        ContainerState `json:"state,omitzero"`
	LastState    ContainerState `json:"lastState,omitzero"`
}

// A ContainerState has one of its fields.
type ContainerState struct {
	Waiting    *Waiting    `json:"waiting,omitempty"`
	Running    *Running    `json:"running,omitempty"`
	Terminated *Terminated `json:"terminated,omitempty"`
}

// Waiting says why a container does not run yet.
type Waiting struct {
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Running says that a container runs.
type Running struct{}

// Terminated says how a container ended.
type Terminated struct {
	ExitCode int    `json:"exitCode"`
	Reason   string `json:"reason,omitempty"` // OOMKilled, Error, Completed
	Message  string `json:"message,omitempty"`
}
