{{/* Names and labels are upstream's, so that a release of its chart can become one of this. */}}
{{- define "epp.name" -}}
{{ .Release.Name | lower | trunc 40 | trimSuffix "-" }}-epp
{{- end }}

{{/* A name for what belongs to no namespace. */}}
{{- define "epp.clusterName" -}}
{{ .Release.Namespace }}-{{ include "epp.name" . }}
{{- end }}

{{- define "epp.selectorLabels" -}}
inferencepool: {{ include "epp.name" . }}
{{- end }}

{{- define "epp.labels" -}}
app.kubernetes.io/name: {{ include "epp.name" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "epp.image" -}}
{{- $image := .Values.inferenceExtension.image }}
{{- if not (and $image.name $image.tag) }}
{{- fail "inferenceExtension.image.name and .tag are required: no image of epp is published; `make image` builds one (hub, if it is in a registry)" }}
{{- end }}
{{- with $image.hub }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.name }}{{ hasPrefix "sha256:" $image.tag | ternary "@" ":" }}{{ $image.tag }}
{{- end }}

{{- define "epp.poolGroup" -}}
{{ .Values.inferencePool.apiVersion | splitList "/" | first }}
{{- end }}

{{/* A flag's value as text; numbers of YAML and JSON are floats here, and must not become 1.3e+08. */}}
{{- define "epp.flagValue" -}}
{{- if and (kindIs "float64" .) (eq (float64 (int64 .)) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* Which samples of the metrics page are read, where they are not vLLM's; docs/model-servers.md. */}}
{{- define "epp.modelServerFlags" -}}
{{- $type := .Values.inferencePool.modelServerType }}
{{- if eq $type "sglang" }}
total-queued-requests-metric: "sglang:num_queue_reqs"
total-running-requests-metric: "sglang:num_running_reqs"
kv-cache-usage-percentage-metric: "sglang:token_usage"
lora-info-metric: ""
cache-info-metric: "sglang:cache_config_info"
{{- else if eq $type "trtllm-serve" }}
model-server-metrics-path: /prometheus/metrics
total-queued-requests-metric: trtllm_num_requests_waiting
total-running-requests-metric: trtllm_num_requests_running
kv-cache-usage-percentage-metric: trtllm_kv_cache_utilization
lora-info-metric: ""
cache-info-metric: ""
{{- else if eq $type "triton-tensorrt-llm" }}
total-queued-requests-metric: "nv_trt_llm_request_metrics{request_type=waiting}"
total-running-requests-metric: "nv_trt_llm_request_metrics{request_type=scheduled}"
kv-cache-usage-percentage-metric: "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}"
lora-info-metric: ""
cache-info-metric: ""
{{- end }}
{{- end }}

{{/* All flags but those that say which pool it is, as YAML: what the chart says, and over it what the values say. */}}
{{- define "epp.flags" -}}
{{- $ext := .Values.inferenceExtension }}
{{- $flags := include "epp.modelServerFlags" . | fromYaml }}
{{- $_ := set $flags "grpc-port" $ext.extProcPort }}
{{- $_ := set $flags "grpc-health-port" 9003 }}
{{- $_ := set $flags "metrics-port" 9090 }}
{{- if gt (int $ext.replicas) 1 }}{{ $_ := set $flags "ha-enable-leader-election" true }}{{ end }}
{{- if not $ext.monitoring.prometheus.auth.enabled }}{{ $_ := set $flags "metrics-endpoint-auth" false }}{{ end }}
{{- if $ext.tls.secretName }}{{ $_ := set $flags "cert-path" "/certs" }}{{ end }}
{{- $given := dict }}
{{- if kindIs "slice" $ext.flags }}
{{- range $ext.flags }}{{ $_ := set $given .name .value }}{{ end }}
{{- else }}
{{- $given = $ext.flags }}
{{- end }}
{{- range $name, $value := $given }}
{{- if has $name (list "pool-name" "pool-namespace" "pool-group" "config-file" "config-text") }}
{{- fail (printf "inferenceExtension.flags.%s: the chart sets it; the pool has the release's name, and pluginsConfigFile names the configuration" $name) }}
{{- end }}
{{- if regexMatch "[A-Z]" $name }}
{{- fail (printf "inferenceExtension.flags.%s: write it as the later versions do, in lower case with dashes" $name) }}
{{- end }}
{{- if and (eq $name "cert-path") $ext.tls.secretName }}
{{- fail "inferenceExtension.flags.cert-path and .tls.secretName: set only one of them" }}
{{- end }}
{{- $_ := set $flags $name $value }}
{{- end }}
{{- toYaml $flags }}
{{- end }}

{{/* Whether replicas elect a leader, as "true" or "". */}}
{{- define "epp.leaderElection" -}}
{{- if eq (toString (get (include "epp.flags" . | fromYaml) "ha-enable-leader-election")) "true" }}true{{ end }}
{{- end }}

{{/* The same of the question who may read /metrics. */}}
{{- define "epp.metricsAuth" -}}
{{- if ne (toString (get (include "epp.flags" . | fromYaml) "metrics-endpoint-auth")) "false" }}true{{ end }}
{{- end }}

{{- define "epp.metricsReader" -}}
{{ .Values.inferenceExtension.monitoring.prometheus.auth.secretName | default (printf "%s-metrics-reader" (include "epp.name" .)) }}
{{- end }}

{{- define "epp.targetPorts" -}}
{{- $pool := .Values.inferencePool }}
{{- toYaml ($pool.targetPorts | default (list (dict "number" $pool.targetPortNumber))) }}
{{- end }}
