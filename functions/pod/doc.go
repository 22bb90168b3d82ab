// Package pod is the sandbox of pods on Kubernetes.
//
// A function runs in a pod of its own on the agent's node: a runner that package
// keeper stands before, reached over TLS with keys that the agent derives from one
// secret and the pod's nonce; or, for runtime image, the user's own container,
// reached over HTTP. A pool of generic runner pods is kept warm, so that the first
// event of a sleeping function does not wait for a pod to start; a pod that was
// taken from it bears the function's labels after its first answer.
//
// Pods belong to a ConfigMap of their function, and so outlive the agent. An agent
// that starts again finds them by their labels and uses them; those that nobody
// wants are deleted: at once when their function or revision is no more, else after
// the function's idle time. Pods of other nodes are never touched.
//
// While the API server is away, what runs goes on, and warm pods can still be taken.
// What would need the server fails with [ErrAway].
package pod
