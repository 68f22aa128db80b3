-- Orthanc sends each CT series to the node once nothing more came of it for StableAge seconds: a job of its own with
-- one association a series. Results of the node are of other modalities and stay here.
function OnStableSeries(seriesId, tags, metadata)
  if tags['Modality'] == 'CT' then
    RestApiPost('/modalities/mmf-node/store', DumpJson({ Resources = { seriesId }, Synchronous = false }, true))
  end
end
