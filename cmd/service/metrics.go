package service

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sedge-iot/sedge/cmd/settings"
)

// Metrics returns a handler that tells what the collectors do, which program this is, and
// how its process and Go's runtime are. It panics if two of them claim the same metric.
func Metrics(all ...prometheus.Collector) http.Handler {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sedge_build_info", Help: "1; the labels say which program this is.",
		ConstLabels: prometheus.Labels{"version": settings.Version(), "goversion": runtime.Version()},
	})
	build.Set(1)
	r := prometheus.NewRegistry()
	r.MustRegister(all...)
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true})
}
