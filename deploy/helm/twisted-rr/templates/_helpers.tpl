{{- define "twisted-rr.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "twisted-rr.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "twisted-rr.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "twisted-rr.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "twisted-rr.selectorLabels" -}}
app.kubernetes.io/name: {{ include "twisted-rr.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "twisted-rr.labels" -}}
{{ include "twisted-rr.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "twisted-rr.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "twisted-rr.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "twisted-rr.configMapName" -}}
{{- default (include "twisted-rr.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{- /* The port of an address such as 0.0.0.0:8080, [::]:8080 or :8080. Neither the kubelet nor a service reaches loopback. */}}
{{- define "twisted-rr.portOf" -}}
{{- if regexMatch "^(tcp://)?(127\\.|localhost:|\\[::1\\])" . }}
{{- fail (printf "%s is reached from inside the pod only: write 0.0.0.0:%s" . (regexFind "[0-9]+$" .)) }}
{{- end }}
{{- regexFind "[0-9]+$" . }}
{{- end }}

{{- /* What is left of the grace period for the server: a preStop's time is inside it. */}}
{{- define "twisted-rr.serverGrace" -}}
{{- $left := sub (int .Values.terminationGracePeriodSeconds) (int .Values.preStop.seconds) }}
{{- if lt (int $left) 5 }}
{{- fail (printf "preStop.seconds %d leaves %d s of terminationGracePeriodSeconds %d: the server needs at least 5 s to stop" (int .Values.preStop.seconds) (int $left) (int .Values.terminationGracePeriodSeconds)) }}
{{- end }}
{{- if and .Values.preStop.command (not .Values.preStop.seconds) }}
{{- fail "preStop.command needs preStop.seconds: the time that it takes is taken from the server's" }}
{{- end }}
{{- $written := dig "endure" "grace_period" "" .Values.config | toString }}
{{- if and (regexMatch "^[0-9]+s$" $written) (ge (trimSuffix "s" $written | int) (int $left)) }}
{{- fail (printf "config.endure.grace_period %s is not below the %d s that terminationGracePeriodSeconds leaves the server: leave it out" $written (int $left)) }}
{{- end }}
{{- $left }}
{{- end }}

{{- /* The port of the gRPC front; only one without TLS can be asked by the kubelet. */}}
{{- define "twisted-rr.grpcProbePort" -}}
{{- if not .Values.config.grpc }}
{{- fail "probes.protocol grpc needs config.grpc.listen" }}
{{- end }}
{{- if .Values.config.grpc.tls }}
{{- fail "probes.protocol grpc needs a listener without TLS, which the kubelet does not speak: use http" }}
{{- end }}
{{- include "twisted-rr.portOf" .Values.config.grpc.listen }}
{{- end }}

{{- /* What a probe asks: a dictionary of root, the HTTP path and the gRPC service. */}}
{{- define "twisted-rr.probe" -}}
{{- if eq .root.Values.probes.protocol "grpc" -}}
grpc: {port: {{ include "twisted-rr.grpcProbePort" .root }}, service: {{ .service }}}
{{- else -}}
httpGet: {path: {{ .path }}, port: status}
{{- end }}
{{- end }}
