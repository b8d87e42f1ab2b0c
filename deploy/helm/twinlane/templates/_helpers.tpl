{{- /* Names end in `-throughput-<ordinal>` and must fit a host name's 63 characters, or replicas would lose their ordinal. */ -}}
{{- define "twinlane.name" -}}
{{- if gt (len .Release.Name) 40 }}{{ fail "the release's name is longer than 40 characters" }}{{ end -}}
{{ .Release.Name }}
{{- end }}

{{- define "twinlane.labels" -}}
app.kubernetes.io/name: twinlane
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "twinlane.metadataLabels" -}}
{{ include "twinlane.labels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* The pipeline's name, from its file where the chart has it. Lanes that the file lacks are refused here. */ -}}
{{- define "twinlane.pipeline" -}}
{{- if .Values.pipeline.inline }}
{{- $file := fromYaml .Values.pipeline.inline }}
{{- if hasKey $file "Error" }}{{ fail (printf "pipeline.inline is not YAML: %s" $file.Error) }}{{ end }}
{{- range $lane := list "precision" "throughput" }}
{{- if and (index $.Values $lane).enabled (not (hasKey ($file.lanes | default dict) $lane)) }}
{{- fail (printf "%s.enabled is true, and pipeline.inline has no lane `%s`" $lane $lane) }}
{{- end }}
{{- end }}
{{- required "pipeline.inline does not say `pipeline:`" $file.pipeline }}
{{- else }}
{{- .Values.pipeline.name }}
{{- end }}
{{- end }}

{{- /* A path as a ConfigMap's key, which cannot hold slashes. */ -}}
{{- define "twinlane.key" -}}
{{ replace "/" "__" . }}
{{- end }}
