{{- define "walcast.name" -}}
{{- if contains "walcast" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "walcast-%s" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "walcast.selector" -}}
app.kubernetes.io/name: walcast
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "walcast.labels" -}}
{{ include "walcast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
