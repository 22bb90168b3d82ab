package kube

import "time"

// TypeMeta says what an object is. [Objects] fill it in.
type TypeMeta struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind,omitempty"`
}

// Meta is what all objects have.
type Meta struct {
	Name            string            `json:"name,omitempty"`
	GenerateName    string            `json:"generateName,omitempty"`
	Namespace       string            `json:"namespace,omitempty"`
	UID             string            `json:"uid,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Generation      int64             `json:"generation,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	Owners          []Owner           `json:"ownerReferences,omitempty"`
	Finalizers      []string          `json:"finalizers,omitempty"`
	Created         *time.Time        `json:"creationTimestamp,omitempty"`
	Deleted         *time.Time        `json:"deletionTimestamp,omitempty"` // when it is to be gone; nil: it stays
}

// An Owner is an object with which another one goes.
type Owner struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
	Controller bool   `json:"controller,omitempty"`
}

// A Namespace is where objects of most kinds live.
type Namespace struct {
	TypeMeta
	Metadata Meta `json:"metadata"`
}

// Namespaces is the kind of [Namespace].
var Namespaces = Kind[Namespace]{Version: "v1", Name: "Namespace", Plural: "namespaces"}

// A Selector picks objects of a kind.
type Selector struct {
	Labels string // such as app=x,tier!=y; "" for all
	Fields string // such as spec.nodeName=a; "" for all
}

// A ConfigMap holds text under names.
type ConfigMap struct {
	TypeMeta
	Metadata Meta              `json:"metadata"`
	Data     map[string]string `json:"data,omitempty"`
}

// ConfigMaps is the kind of [ConfigMap].
var ConfigMaps = Kind[ConfigMap]{Version: "v1", Name: "ConfigMap", Plural: "configmaps"}
