package functions

// APIVersion is the only one there is.
const APIVersion = "sedge.dev/v1"

// A Manifest says when a function runs and what it may do. [Parse] makes one
// from YAML: in a parsed manifest every default is filled in and every rule
// holds. The YAML and JSON names are the same.
type Manifest struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
}

// Metadata names a function.
type Metadata struct {
	Name   string            `json:"name"` // a DNS label: a-z 0-9 -, at most 63
	Labels map[string]string `json:"labels,omitempty"`
}

// A Spec is the body of a manifest.
type Spec struct {
	Runtime     string            `json:"runtime"`
	Source      Source            `json:"source"`
	Triggers    []Trigger         `json:"triggers"`
	Output      *Output           `json:"output,omitempty"`
	Env         map[string]string `json:"env,omitempty"`
	Secrets     []string          `json:"secrets,omitempty"`
	Permissions Permissions       `json:"permissions,omitzero"`
	State       State             `json:"state,omitzero"`
	Resources   Resources         `json:"resources,omitzero"`
	Delivery    Delivery          `json:"delivery,omitzero"`
	Scaling     Scaling           `json:"scaling,omitzero"`
	Placement   Placement         `json:"placement,omitzero"`
}

// A Source is where the code is: one of its fields is set.
type Source struct {
	Path   string `json:"path,omitempty"`   // relative to the manifest's folder
	Inline string `json:"inline,omitempty"` // the code itself
	Image  string `json:"image,omitempty"`  // by digest; runtime image only
}

// A Trigger is the condition under which a function runs: one of MQTT,
// Schedule and HTTP is set.
type Trigger struct {
	MQTT     *MQTTTrigger     `json:"mqtt,omitempty"`
	Schedule *ScheduleTrigger `json:"schedule,omitempty"`
	HTTP     *HTTPTrigger     `json:"http,omitempty"`
}

// An MQTTTrigger fires on messages that match Topic and pass the conditions, in
// this order: when, changed, throttle, debounce or hold.
type MQTTTrigger struct {
	Topic    string   `json:"topic"`              // a filter with captures
	QoS      *byte    `json:"qos,omitempty"`      // to subscribe with; default 1
	When     string   `json:"when,omitempty"`     // an expression over event, payload, topic, captures, previous
	Changed  string   `json:"changed,omitempty"`  // an expression: fires only when its value differs from the one before, by device
	Throttle Duration `json:"throttle,omitempty"` // at most one run in this time, by device; the first counts
	Debounce Duration `json:"debounce,omitempty"` // waits until the device was quiet for this time; the last counts
	Hold     Duration `json:"hold,omitempty"`     // fires once `when` has been true for this time without a false between
	Retained string   `json:"retained,omitempty"` // ignore (default) or run
}

// A ScheduleTrigger fires by the clock: one of Cron and Every is set.
type ScheduleTrigger struct {
	Cron     string   `json:"cron,omitempty"`     // five fields, or @daily and the like
	Timezone string   `json:"timezone,omitempty"` // IANA name; default: the node's
	Every    Duration `json:"every,omitempty"`    // at least 1s
}

// An HTTPTrigger fires on a request to the node's HTTP trigger listener.
type HTTPTrigger struct {
	Path    string   `json:"path"`
	Methods []string `json:"methods,omitempty"` // default POST
}

// An Output says where a returned value is published.
type Output struct {
	Topic  string `json:"topic"` // may name captures: zigbee2mqtt/{device}/set
	QoS    *byte  `json:"qos,omitempty"`
	Retain bool   `json:"retain,omitempty"`
}

// Permissions list what a function may reach; all else is denied. The topic of
// Output is permitted without being listed.
type Permissions struct {
	Publish []string `json:"publish,omitempty"` // topic filters
	HTTP    []string `json:"http,omitempty"`    // host:port; refused until the egress proxy exists
}

// State limits the function's state.
type State struct {
	MaxBytes Bytes `json:"maxBytes,omitempty"` // keys and values; default 1Mi, or 0, and only that, if the placement is shared
}

// Resources limit a runner.
type Resources struct {
	Memory      Bytes    `json:"memory,omitempty"`      // default 32Mi
	CPU         string   `json:"cpu,omitempty"`         // Kubernetes quantity, 500m; default: none
	Timeout     Duration `json:"timeout,omitempty"`     // of one attempt; default 5s
	Concurrency int      `json:"concurrency,omitempty"` // attempts at a time; default 4
}

// Delivery says how deliveries are ordered, retried and limited.
type Delivery struct {
	Order       string     `json:"order,omitempty"` // device (default), topic, none, or an expression
	Retry       Retry      `json:"retry,omitzero"`
	DeadLetter  *bool      `json:"deadLetter,omitempty"`  // default true; false: used-up deliveries are discarded and counted
	MaxAge      Duration   `json:"maxAge,omitempty"`      // older events are expired; default: none
	PublishRate int        `json:"publishRate,omitempty"` // messages a second, default 1000; burst five times that
	Dedupe      *Dedupe    `json:"dedupe,omitempty"`
	Inbox       InboxQuota `json:"inbox,omitzero"`
}

// Retry is exponential back-off with jitter.
type Retry struct {
	Attempts int      `json:"attempts,omitempty"` // in all; default 5
	Backoff  Duration `json:"backoff,omitempty"`  // before the second; default 1s
	Max      Duration `json:"max,omitempty"`      // default 1m
}

// Dedupe recognises an event by a key of its own.
type Dedupe struct {
	Key    string   `json:"key"`              // an expression
	Window Duration `json:"window,omitempty"` // how long a key is remembered; default 10m
}

// InboxQuota limits what may wait for one function on a node.
type InboxQuota struct {
	Deliveries int   `json:"deliveries,omitempty"` // default 10000
	Bytes      Bytes `json:"bytes,omitempty"`      // default 32Mi
}

// Scaling says how many runners are kept and for how long.
type Scaling struct {
	Min  int      `json:"min,omitempty"`  // 0 (default) or 1: kept running though idle
	Idle Duration `json:"idle,omitempty"` // after which a runner goes; default 5m
}

// Placement says which nodes run the function, and in which sandbox.
type Placement struct {
	Mode    string            `json:"mode,omitempty"`    // each (default) or one
	Sandbox string            `json:"sandbox,omitempty"` // auto (default), process, pod
	Pin     string            `json:"pin,omitempty"`     // node (default) or cluster
	Nodes   map[string]string `json:"nodes,omitempty"`   // labels a node must have
}

// Words that decide what can run a function.
const (
	RuntimeImage   = "image" // of Spec.Runtime
	SandboxAuto    = "auto"  // of Placement.Sandbox, as below
	SandboxProcess = "process"
	SandboxPod     = "pod"
)

// The words that Delivery.Order takes beside an expression.
const (
	OrderDevice = "device"
	OrderTopic  = "topic"
	OrderNone   = "none"
)
