// OHIF 3.13 beside Orthanc, as pacsight's sandbox serves it: its app-config.js.
//
// All addresses are relative: whatever serves OHIF passes /dicom-web and /wado on to
// Orthanc. An address with &hangingProtocolId=pacsight opens a study at the image with
// the highest score, and its newest page beside it.

const isPage = ({ Modality, SeriesDescription }) =>
  Modality === 'OT' && /^AI .*RESEARCH, NOT FOR DIAGNOSIS$/.test(SeriesDescription);

const written = ({ instances }) =>
  `${instances?.[0]?.ContentDate}${instances?.[0]?.ContentTime}`;

// A late image, a new model or new thresholds give a page that supersedes the former.
const isNewestPage = (series, { displaySets }) =>
  isPage(series) &&
  displaySets.filter(isPage).every(other => written(other) <= written(series));

const isImage = series => series.numImageFrames > 0 && !isPage(series);

// The page names the image of its first picture: where the score is highest.
const leadingIndex = ({ instances }, displaySets) => {
  const page = displaySets.find(one => isNewestPage(one, { displaySets }));
  const [first] = page?.instances[0].SourceImageSequence ?? [];
  return (instances ?? []).findIndex(
    one => one.SOPInstanceUID === first?.ReferencedSOPInstanceUID
  );
};

const isLeadingSeries = (series, { displaySets }) =>
  isImage(series) && leadingIndex(series, displaySets) >= 0;

// What OHIF writes over the corners of a viewport, but for pages.
const notOnPages = items =>
  items.map(({ condition = () => true, ...item }) => ({
    ...item,
    condition: props => condition(props) && !isPage(props.referenceInstance ?? {}),
  }));

const must = attribute => ({
  attribute, constraint: { equals: { value: true } }, required: true,
});

const preferably = attribute => ({ ...must(attribute), required: false, weight: 10 });

const viewport = (viewportId, selector, initialImageOptions) => ({
  viewportOptions: {
    viewportId,
    viewportType: 'stack',
    toolGroupId: 'default',
    allowUnmatchedView: true,
    initialImageOptions,
  },
  displaySets: [{ id: selector }],
});

const imageAndPage = {
  id: 'pacsight',
  name: 'Image and AI page',
  protocolMatchingRules: [],
  toolGroupIds: ['default'],
  numberOfPriorsReferenced: 0,
  defaultViewport: viewport('default', 'image'),
  displaySetSelectors: {
    image: { seriesMatchingRules: [must('isImage'), preferably('isLeadingSeries')] },
    page: { seriesMatchingRules: [must('isNewestPage')] },
  },
  stages: [
    {
      name: 'image and page',
      viewportStructure: { layoutType: 'grid', properties: { rows: 1, columns: 2 } },
      viewports: [
        viewport('image', 'image', { custom: 'leadingImage' }),
        viewport('page', 'page'),
      ],
    },
  ],
};

window.config = {
  name: 'pacsight sandbox',
  routerBasename: null,
  extensions: [
    {
      id: 'pacsight',
      preRegistration({ servicesManager }) {
        const { displaySetService, hangingProtocolService } = servicesManager.services;
        const attributes = {
          isImage,
          isLeadingSeries,
          isNewestPage,
          leadingImage: ([series]) => {
            const index = leadingIndex(series, displaySetService.getActiveDisplaySets());
            return index < 0 ? {} : { index };
          },
        };
        for (const [name, callback] of Object.entries(attributes)) {
          hangingProtocolService.addCustomAttribute(name, name, callback);
        }
      },
      getHangingProtocolModule: () => [{ name: imageAndPage.id, protocol: imageAndPage }],
    },
  ],
  modes: [],
  customizationService: [
    {
      'ohif.tours': { $set: [] }, // an introduction that lies over the first study
      autoCineModalities: { $set: ['US'] }, // no film bar over the page
      // nor date, description and window: the page has its own words there
      'viewportOverlay.topLeft': { $apply: notOnPages },
      'viewportOverlay.bottomLeft': { $apply: notOnPages },
    },
  ],
  showStudyList: true,
  maxNumberOfWebWorkers: 2,
  showErrorDetails: 'always',
  investigationalUseDialog: { option: 'never' }, // the page says so itself
  defaultDataSourceName: 'orthanc',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'orthanc',
      configuration: {
        friendlyName: 'Orthanc',
        name: 'orthanc',
        qidoRoot: '/dicom-web',
        wadoRoot: '/dicom-web',
        wadoUriRoot: '/wado',
        qidoSupportsIncludeField: false,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors', // Orthanc 1.10 has no /thumbnail
        enableStudyLazyLoad: true,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true },
      },
    },
  ],
};
